"""The Bliss lexicon: phonemes, and how words are pronounced.

A phoneme's index is its place in the inventory, counted from 0. That is also the index of its label: it
is what RASR assigns with monophone state tying and one HMM state for each phoneme, the case that
refsprint models. The blank is a phoneme of the inventory like any other, so its label is wherever the
inventory lists it, and the posteriors have as many labels as the inventory has phonemes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from shmbridge.errors import FileFormatError

from .corpus import WHITESPACE
from .xml_reader import read_xml

__all__ = ["Lemma", "Lexicon", "Pronunciation", "read_lexicon"]


@dataclass(frozen=True)
class Pronunciation:
    """One way to pronounce a lemma.

    Attributes:
        phonemes: indices into the inventory.
        score: -ln of its probability among the lemma's pronunciations.
    """

    phonemes: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Lemma:
    """An entry of the lexicon.

    Attributes:
        orthographies: the ways to write it, each a tuple of words; the empty tuple is a lemma that may
            stand anywhere, usually silence.
        pronunciations: the ways to pronounce it.
        special: "silence", "blank", "unknown" or another special role, or None.
    """

    orthographies: tuple[tuple[str, ...], ...]
    pronunciations: tuple[Pronunciation, ...]
    special: Optional[str]


class Lexicon:
    """Phonemes and lemmas. Not changed after it was read; safe to share.

    Attributes:
        path: the file.
        phonemes: the symbols of the inventory; the index is the label.
        lemmas: in the order of the file.
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

    def written(self, words: tuple[str, ...]) -> list[Lemma]:
        """The lemmas that are written as these words."""
        return self._by_orthography.get(words, [])

    def special(self, role: str) -> Optional[Lemma]:
        """The lemma with this special role, or None."""
        return next((lemma for lemma in self.lemmas if lemma.special == role), None)

    def blank(self) -> int:
        """The label of the blank: the one phoneme of the lemma whose role is "blank".

        Errors:
            FileFormatError: the lexicon defines no such lemma, or pronounces it otherwise.
        """
        lemma = self.special("blank")
        pronunciation = lemma.pronunciations[0].phonemes if lemma and lemma.pronunciations else ()
        if len(pronunciation) != 1:
            problem = 'CTC needs a lemma with special="blank" that is pronounced as one phoneme [lexicon]'
            raise FileFormatError(self.path, None, problem)
        return pronunciation[0]


def read_lexicon(path: str, normalize: bool = True) -> Lexicon:
    """Read a Bliss lexicon, plain or gzipped.

    Args:
        path: the file.
        normalize: scale the weights of a lemma's pronunciations so that they sum to one, as RASR does
            unless normalize-pronunciation is false.

    Errors:
        FileFormatError: with file and line, where the file does not define a lexicon.
    """
    reader = _LexiconReader(path, normalize)
    read_xml(path, reader)
    return Lexicon(path, reader.phonemes, reader.lemmas)


# Which elements may stand in which; the content of those in _LEAVES is taken as text or not at all.
_CHILDREN = {
    "": ("lexicon",),
    "lexicon": ("phoneme-inventory", "lemma"),
    "phoneme-inventory": ("phoneme",),
    "phoneme": ("symbol", "variation", "features"),
    "lemma": ("orth", "phon", "synt", "eval"),
}
_LEAVES = frozenset(("symbol", "variation", "features", "orth", "phon", "synt", "eval"))


class _LexiconReader:
    """Builds phonemes and lemmas from the elements of a lexicon file."""

    def __init__(self, path: str, normalize: bool) -> None:
        self.phonemes: list[str] = []
        self.lemmas: list[Lemma] = []
        self._path = path
        self._normalize = normalize
        self._elements: list[str] = []
        self._text: list[str] = []
        self._labels: dict[str, int] = {}
        self._has_inventory = False
        self._symbols: list[str] = []
        self._special: Optional[str] = None
        self._specials: set[str] = set()
        self._orthographies: list[tuple[str, ...]] = []
        self._weights: dict[tuple[int, ...], float] = {}
        self._weight = 1.0

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        """An element begins."""
        parent = self._elements[-1] if self._elements else ""
        self._elements.append(name)
        if _LEAVES.intersection(self._elements[:-1]):
            return
        if name not in _CHILDREN.get(parent, ()):
            raise self._error(line, f"unexpected <{name}> [xml]")
        self._text = []
        if name == "phoneme-inventory":
            if self._has_inventory or self.lemmas:
                raise self._error(line, "the phoneme inventory must come first, and once [lexicon]")
            self._has_inventory = True
        elif name == "phoneme":
            self._symbols = []
        elif name == "lemma":
            self._special = attributes.get("special")
            self._orthographies = []
            self._weights = {}
        elif name == "phon":
            self._weight = self._read_weight(attributes, line)

    def end(self, name: str, line: int) -> None:
        """An element ends."""
        self._elements.pop()
        if _LEAVES.intersection(self._elements):
            return
        words = _words("".join(self._text))
        if name == "symbol":
            self._symbol(" ".join(words), line)
        elif name == "phoneme" and not self._symbols:
            raise self._error(line, "a phoneme without a symbol [lexicon]")
        elif name == "orth":
            self._orthographies.append(words)
        elif name == "phon":
            self._pronunciation(words, line)
        elif name == "lemma":
            self._lemma(line)

    def characters(self, text: str, line: int) -> None:
        """A piece of text."""
        self._text.append(text)

    def _error(self, line: int, problem: str) -> FileFormatError:
        return FileFormatError(self._path, line, problem)

    def _read_weight(self, attributes: dict[str, str], line: int) -> float:
        if "weight" in attributes and "score" in attributes:
            raise self._error(line, "a pronunciation has either a weight or a score [lexicon]")
        text = attributes.get("score", attributes.get("weight", "1"))
        try:
            value = float(text)
            weight = math.exp(-value) if "score" in attributes else value
        except (ValueError, OverflowError):
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise self._error(line, f"the weight or score of a pronunciation cannot be {text!r} [lexicon]")
        return weight

    def _symbol(self, symbol: str, line: int) -> None:
        if not symbol or " " in symbol:
            raise self._error(line, f"malformed phoneme symbol {symbol!r} [lexicon]")
        if symbol in self._labels:
            raise self._error(line, f"phoneme {symbol!r} is already defined [lexicon]")
        if not self._symbols:
            self.phonemes.append(symbol)
        self._symbols.append(symbol)
        self._labels[symbol] = len(self.phonemes) - 1

    def _pronunciation(self, symbols: tuple[str, ...], line: int) -> None:
        for symbol in symbols:
            if symbol not in self._labels:
                raise self._error(line, f"unknown phoneme {symbol!r} [lexicon]")
        phonemes = tuple(self._labels[symbol] for symbol in symbols)
        if phonemes in self._weights:
            raise self._error(line, "the lemma already has this pronunciation [lexicon]")
        self._weights[phonemes] = self._weight

    def _lemma(self, line: int) -> None:
        if not self._orthographies:
            raise self._error(line, "a lemma without an orthography [lexicon]")
        if self._special is not None:
            if self._special in self._specials:
                raise self._error(
                    line, f"a lemma with special={self._special!r} is already defined [lexicon]"
                )
            self._specials.add(self._special)
        total = math.fsum(self._weights.values()) if self._normalize else 1.0
        if self._weights and not 0 < total < math.inf:
            raise self._error(line, f"the weights of the pronunciations cannot sum to {total} [lexicon]")
        pronunciations = tuple(
            Pronunciation(phonemes, -math.log(weight / total))
            for phonemes, weight in self._weights.items()
            if weight / total > 0
        )
        # The same orthography twice is one way to write the lemma.
        orthographies = tuple(dict.fromkeys(self._orthographies))
        self.lemmas.append(Lemma(orthographies, pronunciations, self._special))


def _words(text: str) -> tuple[str, ...]:
    for character in WHITESPACE[1:]:
        text = text.replace(character, " ")
    return tuple(word for word in text.split(" ") if word)
