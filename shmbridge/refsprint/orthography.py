"""Orthographies as lattices: all ways to split the words into lemmas and to pronounce these.

As in RASR's orthographic parser, an orthography of a lemma may have several words, and all segmentations
count. A word that no lemma covers is read as the lemma with special="unknown", or skipped if there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shmbridge.bliss.lexicon import Lemma, Lexicon

from .console import CriticalError, FailedAssertionError

__all__ = ["Edge", "Lattice", "parse_orthography"]


class Edge(NamedTuple):
    """A pronunciation between two nodes, source < target. The score is -ln of its probability."""

    source: int
    target: int
    labels: tuple[int, ...]
    score: float


class Lattice(NamedTuple):
    """An acyclic graph of pronunciations from node 0 to the last node.

    Attributes:
        node_count: the number of nodes. They are numbered in topological order.
        edges: the edges, in no particular order.
        skipped: the words that no lemma covers.
    """

    node_count: int
    edges: tuple[Edge, ...]
    skipped: tuple[str, ...]


def parse_orthography(orthography: str, lexicon: Lexicon, optional_silence: bool = False) -> Lattice:
    """Build the lattice of an orthography.

    Args:
        orthography: words, each followed by one blank; may be empty.
        lexicon: the lexicon.
        optional_silence: allow one silence (a lemma with an empty orthography) before, between and after the
            words, as RASR does with allow-for-silence-repetitions=false.

    Raises:
        FailedAssertionError: the blanks are misplaced.
        CriticalError: a word has no pronunciation.
    """
    words = _split(orthography)
    unknown = lexicon.special("unknown")
    edges = []
    # Node 2i is before word i. Node 2i+1 is between the optional silence and word i.
    for i in range(len(words) + 1):
        edges.append(Edge(2 * i, 2 * i + 1, (), 0.0))
        for silence in lexicon.find_lemmas(()) if optional_silence else []:
            edges += _pronounce(2 * i, 2 * i + 1, silence)
    skipped = []
    for start, end, lemmas in _spans(words, lexicon):
        if not lemmas and unknown is None:
            skipped.append(words[start])
            edges.append(Edge(2 * start + 1, 2 * end, (), 0.0))
        for lemma in lemmas or filter(None, [unknown]):
            edges += _pronounce(2 * start + 1, 2 * end, lemma)
    node_count = 2 * len(words) + 2
    useful = _useful_edges(edges, node_count)
    if not useful:
        # RASR: "lemma-pronunciation graph is empty", a critical error.
        raise CriticalError(f"a word has no pronunciation: {orthography!r} [orthography]")
    return Lattice(node_count, tuple(useful), tuple(skipped))


def _spans(words: tuple[str, ...], lexicon: Lexicon) -> Iterator[tuple[int, int, list[Lemma]]]:
    """Yield the spans (start, end) of words that are lemmas. An unknown word is a span without lemmas."""
    reachable = {0}
    furthest = 0
    for start in range(len(words)):
        if start not in reachable:
            continue
        for end in range(start + 1, min(start + lexicon.longest, len(words)) + 1):
            lemmas = lexicon.find_lemmas(words[start:end])
            if lemmas:
                reachable.add(end)
                furthest = max(furthest, end)
                yield start, end, lemmas
        if start == furthest:
            furthest = start + 1
            reachable.add(furthest)
            yield start, furthest, []


def _split(orthography: str) -> tuple[str, ...]:
    if not orthography:
        return ()
    words = orthography.split(" ")
    if words.pop() or "" in words:
        raise FailedAssertionError(
            f"the orthography is {orthography!r}; each word must be followed by one blank [orthography]"
        )
    return tuple(words)


def _pronounce(source: int, target: int, lemma: Lemma) -> Iterator[Edge]:
    for pronunciation in lemma.pronunciations:
        yield Edge(source, target, pronunciation.phonemes, pronunciation.score)


def _useful_edges(edges: list[Edge], node_count: int) -> list[Edge]:
    """Return the edges on paths from the first node to the last."""
    forward = {0}
    for edge in sorted(edges, key=lambda e: e.source):
        if edge.source in forward:
            forward.add(edge.target)
    backward = {node_count - 1}
    for edge in sorted(edges, key=lambda e: -e.target):
        if edge.target in backward:
            backward.add(edge.source)
    return [edge for edge in edges if edge.source in forward and edge.target in backward]
