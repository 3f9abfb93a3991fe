"""Bliss lexica: phonemes, words and pronunciations.

The label of a phoneme is its index in the inventory, counted from 0. RASR assigns the same labels with
monophone state tying and one HMM state per phoneme. The blank is a phoneme like any other, so that the number
of labels is the number of phonemes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from shmbridge.errors import FileFormatError

from .xml_reader import Element, open_xml

__all__ = ["Lemma", "Lexicon", "Pronunciation", "read_lexicon"]


class Pronunciation(NamedTuple):
    """The labels of a pronunciation. The score is -ln of its probability among those of the lemma."""

    phonemes: tuple[int, ...]
    score: float


class Lemma(NamedTuple):
    """An entry of the lexicon.

    Attributes:
        orthographies: the ways to write the lemma, each a tuple of words. A lemma with an empty one, usually
            silence, may occur between any two words.
        pronunciations: the ways to pronounce the lemma.
        special: "silence", "blank", "unknown" or another role, or None.
    """

    orthographies: tuple[tuple[str, ...], ...]
    pronunciations: tuple[Pronunciation, ...]
    special: Optional[str]


class Lexicon:
    """Phonemes and lemmas. Immutable, and so thread-safe.

    Attributes:
        path: the file.
        phonemes: the symbols of the inventory; the index is the label.
        lemmas: the lemmas, in the order of the file.
        longest: the number of words of the longest orthography.
    """

    def __init__(self, path: str, phonemes: Iterable[str], lemmas: Iterable[Lemma]) -> None:
        self.path = path
        self.phonemes = tuple(phonemes)
        self.lemmas = tuple(lemmas)
        self._by_orthography: dict[tuple[str, ...], list[Lemma]] = {}
        for lemma in self.lemmas:
            for orthography in lemma.orthographies:
                self._by_orthography.setdefault(orthography, []).append(lemma)
        self.longest = max((len(words) for words in self._by_orthography), default=0)

    def find_lemmas(self, words: tuple[str, ...]) -> list[Lemma]:
        """Return the lemmas that have these words as an orthography."""
        return self._by_orthography.get(words, [])

    def special(self, role: str) -> Optional[Lemma]:
        """Return the lemma with a special role, or None."""
        return next((lemma for lemma in self.lemmas if lemma.special == role), None)

    def blank(self) -> int:
        """Return the label of the blank: the one phoneme of the lemma whose role is "blank".

        Raises:
            FileFormatError: there is no such lemma, or it does not have exactly one phoneme.
        """
        lemma = self.special("blank")
        pronunciation = lemma.pronunciations[0].phonemes if lemma and lemma.pronunciations else ()
        if len(pronunciation) != 1:
            problem = 'CTC needs a lemma with special="blank" and one phoneme as its pronunciation [lexicon]'
            raise FileFormatError(self.path, None, problem)
        return pronunciation[0]


def read_lexicon(path: str, normalize: bool = True) -> Lexicon:
    """Read a Bliss lexicon, plain or gzipped.

    Args:
        path: the file.
        normalize: scale the weights of a lemma's pronunciations to a sum of one, as RASR does unless
            normalize-pronunciation is false.

    Raises:
        FileFormatError: the file is missing or malformed.
    """
    reader = _Reader(normalize)
    with open_xml(path) as root:
        reader.read(root)
    return Lexicon(path, reader.phonemes, reader.lemmas)


_CHILDREN = {
    "lexicon": ("phoneme-inventory", "lemma"),
    "phoneme-inventory": ("phoneme",),
    "phoneme": ("symbol", "variation", "features"),
    "lemma": ("orth", "phon", "synt", "eval"),
}


def _children(element: Element) -> Iterator[Element]:
    for child in element.children():
        if child.name not in _CHILDREN[element.name]:
            raise child.error(f"unexpected <{child.name}> [xml]")
        yield child


class _Reader:
    def __init__(self, normalize: bool) -> None:
        self.phonemes: list[str] = []
        self.lemmas: list[Lemma] = []
        self._normalize = normalize
        self._labels: dict[str, int] = {}
        self._specials: set[str] = set()

    def read(self, root: Element) -> None:
        if root.name != "lexicon":
            raise root.error(f"expected <lexicon>, got <{root.name}> [xml]")
        for number, element in enumerate(_children(root)):
            if element.name == "lemma":
                self._read_lemma(element)
            elif number == 0:
                for phoneme in _children(element):
                    self._read_phoneme(phoneme)
            else:
                raise element.error("the phoneme inventory must come first, and once [lexicon]")

    def _read_phoneme(self, element: Element) -> None:
        symbols = [(child, " ".join(child.words())) for child in _children(element) if child.name == "symbol"]
        if not symbols:
            raise element.error("a phoneme has no symbol [lexicon]")
        label = len(self.phonemes)
        self.phonemes.append(symbols[0][1])
        for child, symbol in symbols:
            if not symbol or " " in symbol:
                raise child.error(f"malformed phoneme symbol {symbol!r} [lexicon]")
            if symbol in self._labels:
                raise child.error(f"phoneme {symbol!r} is already defined [lexicon]")
            self._labels[symbol] = label

    def _read_lemma(self, element: Element) -> None:
        special = element.attributes.get("special")
        if special in self._specials:
            raise element.error(f"a lemma with special={special!r} is already defined [lexicon]")
        if special is not None:
            self._specials.add(special)
        # A dict keeps one of several equal orthographies, in their order.
        orthographies: dict[tuple[str, ...], None] = {}
        weights: dict[tuple[int, ...], float] = {}
        for child in _children(element):
            if child.name == "orth":
                orthographies[tuple(child.words())] = None
            elif child.name == "phon":
                phonemes = self._phonemes(child)
                if phonemes in weights:
                    raise child.error("the lemma already has this pronunciation [lexicon]")
                weights[phonemes] = _weight(child)
        if not orthographies:
            raise element.error("a lemma has no orthography [lexicon]")
        total = math.fsum(weights.values()) if self._normalize else 1.0
        if weights and not 0 < total < math.inf:
            raise element.error(f"the weights of the pronunciations cannot sum to {total} [lexicon]")
        pronunciations = tuple(
            Pronunciation(phonemes, -math.log(weight / total))
            for phonemes, weight in weights.items()
            if weight / total > 0
        )
        self.lemmas.append(Lemma(tuple(orthographies), pronunciations, special))

    def _phonemes(self, element: Element) -> tuple[int, ...]:
        try:
            return tuple(self._labels[symbol] for symbol in element.words())
        except KeyError as error:
            raise element.error(f"unknown phoneme {error.args[0]!r} [lexicon]") from None


def _weight(element: Element) -> float:
    attributes = element.attributes
    if "weight" in attributes and "score" in attributes:
        raise element.error("a pronunciation must not have both a weight and a score [lexicon]")
    text = attributes.get("score", attributes.get("weight", "1"))
    try:
        value = float(text)
        weight = math.exp(-value) if "score" in attributes else value
    except (ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise element.error(f"the weight or score of a pronunciation cannot be {text!r} [lexicon]")
    return weight
