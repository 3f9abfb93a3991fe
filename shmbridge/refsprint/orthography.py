"""An orthography as a lattice: all ways to read its words as lemmas and to pronounce these.

Like RASR's orthographic parser: a lemma may be written with several words, all segmentations count, and
a word that no lemma covers is read as the lemma with special="unknown" where there is one and is skipped
where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .console import CriticalError, FailedAssertionError
from .lexicon import Lemma, Lexicon

__all__ = ["Edge", "Lattice", "parse_orthography", "unknown_words"]


@dataclass(frozen=True)
class Edge:
    """One pronunciation between two nodes.

    Attributes:
        source: a node.
        target: a node, source < target.
        labels: the labels of the pronunciation; may be empty.
        score: -ln of the pronunciation's probability.
    """

    source: int
    target: int
    labels: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Lattice:
    """An acyclic graph of pronunciations from node 0 to the last node.

    Attributes:
        node_count: the number of nodes; they are numbered in topological order.
        edges: in no particular order.
        skipped: words that no lemma covers and that were left out.
    """

    node_count: int
    edges: tuple[Edge, ...]
    skipped: tuple[str, ...]


def parse_orthography(orthography: str, lexicon: Lexicon, optional_silence: bool = False) -> Lattice:
    """Build the lattice of an orthography.

    Args:
        orthography: words, single blanks between and one after them; empty for no words.
        lexicon: the lexicon.
        optional_silence: before, between and after the words, one silence may stand: a lemma whose
            orthography is empty. It is what RASR does with allow-for-silence-repetitions=false.

    Errors:
        FailedAssertionError: the blanks are not as they must be.
        CriticalError: there is no way to pronounce the orthography.
    """
    words = _split(orthography)
    unknown = lexicon.special("unknown")
    silences = lexicon.written(()) if optional_silence else []
    # Node 2i is in front of word i, node 2i+1 there too, but behind the silence that may stand there.
    edges = []
    skipped: list[str] = []
    reached = {0}
    furthest = 0
    for i in range(len(words) + 1):
        if i not in reached:
            continue
        edges.append(Edge(2 * i, 2 * i + 1, (), 0.0))
        for silence in silences:
            edges += _pronounced(2 * i, 2 * i + 1, silence)
        for length in range(1, min(lexicon.longest, len(words) - i) + 1):
            lemmas = lexicon.written(words[i : i + length])
            for lemma in lemmas:
                edges += _pronounced(2 * i + 1, 2 * (i + length), lemma)
            if lemmas:
                reached.add(i + length)
                furthest = max(furthest, i + length)
        if i < len(words) and i == furthest:
            # Nothing leads beyond this word: it is unknown.
            furthest = i + 1
            reached.add(furthest)
            if unknown is None:
                skipped.append(words[i])
                edges.append(Edge(2 * i + 1, 2 * i + 2, (), 0.0))
            else:
                edges += _pronounced(2 * i + 1, 2 * i + 2, unknown)
    node_count = 2 * len(words) + 2
    kept = _productive(edges, node_count)
    if not kept:
        # RASR: "lemma-pronunciation graph is empty", a critical error.
        raise CriticalError(f"a word has no pronunciation: {orthography!r} [orthography]")
    return Lattice(node_count, tuple(kept), tuple(skipped))


def unknown_words(orthography: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The words that would be skipped: no lemma covers them, and there is none for unknown words.

    Unlike parse_orthography, this does not care whether the words have pronunciations.
    """
    if lexicon.special("unknown") is not None:
        return ()
    words = _split(orthography)
    reached = {0}
    furthest = 0
    skipped = []
    for i in range(len(words)):
        if i not in reached:
            continue
        for length in range(1, min(lexicon.longest, len(words) - i) + 1):
            if lexicon.written(words[i : i + length]):
                reached.add(i + length)
                furthest = max(furthest, i + length)
        if i == furthest:
            furthest = i + 1
            reached.add(furthest)
            skipped.append(words[i])
    return tuple(skipped)


def _split(orthography: str) -> tuple[str, ...]:
    if not orthography:
        return ()
    words = orthography.split(" ")
    if words.pop() or "" in words:
        raise FailedAssertionError(
            f"an orthography must have single blanks between its words and one at its end: {orthography!r}"
            " [orthography]"
        )
    return tuple(words)


def _pronounced(source: int, target: int, lemma: Lemma) -> Iterator[Edge]:
    for pronunciation in lemma.pronunciations:
        yield Edge(source, target, pronunciation.phonemes, pronunciation.score)


def _productive(edges: list[Edge], node_count: int) -> list[Edge]:
    """The edges that lie on a way from the first node to the last."""
    forward = {0}
    for edge in sorted(edges, key=lambda e: e.source):
        if edge.source in forward:
            forward.add(edge.target)
    backward = {node_count - 1}
    for edge in sorted(edges, key=lambda e: -e.target):
        if edge.target in backward:
            backward.add(edge.source)
    return [edge for edge in edges if edge.source in forward and edge.target in backward]
