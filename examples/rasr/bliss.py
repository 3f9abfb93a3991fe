"""Corpus and lexicon in RASR's XML format, Bliss."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from .task import CORPUS, RECORDING, Task

__all__ = ["FRAME_SHIFT", "corpus", "lexicon"]

FRAME_SHIFT = 0.01
"""Seconds from one frame to the next."""

_HEAD = '<?xml version="1.0" encoding="utf-8"?>'


def corpus(task: Task) -> str:
    """The corpus: one recording with all segments, one after the other."""
    return "\n".join(_corpus_lines(task)) + "\n"


def lexicon(task: Task) -> str:
    """The lexicon: the phoneme inventory, whose order is that of the labels, and the words."""
    return "\n".join(_lexicon_lines(task)) + "\n"


def _corpus_lines(task: Task) -> Iterator[str]:
    yield _HEAD
    yield f"<corpus name={quoteattr(CORPUS)}>"
    # RASR demands an audio file's name. Nothing reads it here: the features come from a cache.
    yield f'  <recording name={quoteattr(RECORDING)} audio="none.wav">'
    first = 0
    for segment in task.segments:
        start, end = first * FRAME_SHIFT, (first + segment.frames) * FRAME_SHIFT
        words = " ".join(word.orthography for word in segment.words)
        yield f'    <segment name={quoteattr(segment.name)} start="{start:.2f}" end="{end:.2f}">'
        yield f"      <orth> {escape(words)} </orth>"
        yield "    </segment>"
        first += segment.frames
    yield "  </recording>"
    yield "</corpus>"


def _lexicon_lines(task: Task) -> Iterator[str]:
    yield _HEAD
    yield "<lexicon>"
    yield "  <phoneme-inventory>"
    for phoneme in task.phonemes:
        # Without variation, a phoneme has no context: what the silence and the blank have to be.
        fixed = "<variation>none</variation>" if phoneme in task.phonemes[-2:] else ""
        yield f"    <phoneme><symbol>{escape(phoneme)}</symbol>{fixed}</phoneme>"
    yield "  </phoneme-inventory>"
    # A word of one phoneme must not come first, silence and blank neither: RASR b6ff1a89, without phoneme
    # contexts, could then follow no word by another, and crashes.
    for word in task.words:
        spoken = "".join(
            f"<phon>{' '.join(task.phonemes[label] for label in labels)}</phon>"
            for labels in word.pronunciations
        )
        yield f"  <lemma><orth>{escape(word.orthography)}</orth>{spoken}</lemma>"
    for role, label in (("silence", task.silence), ("blank", task.blank)):
        orth = f"<orth>[{role.upper()}]</orth>"
        yield f'  <lemma special="{role}">{orth}<phon>{task.phonemes[label]}</phon></lemma>'
    yield "</lexicon>"
