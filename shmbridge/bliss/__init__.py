"""RASR's Bliss files: corpora and lexica.

The files, from the inside to the outside:

    files.py        files, plain or gzipped, and limits for files that include others
    xml_reader.py   XML elements with line numbers; entity declarations are refused
    corpus.py       corpora: segments
    lexicon.py      lexica: phonemes, lemmas, pronunciations
"""

from .corpus import Corpus, CorpusOptions, Segment, read_corpus
from .lexicon import Lemma, Lexicon, Pronunciation, read_lexicon

__all__ = [
    "Corpus",
    "CorpusOptions",
    "Lemma",
    "Lexicon",
    "Pronunciation",
    "Segment",
    "read_corpus",
    "read_lexicon",
]
