"""The arcs of a word lattice with their pronunciations, and those on paths of the reference.

RASR replaces each word by its pronunciations: one arc each. Its numerator is the composition of the lattice
with the reference, between whose words silence may occur any number of times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shmbridge.bliss.lexicon import Lemma, Lexicon
from shmbridge.lattices import Lattice

from .console import CriticalError, warn

__all__ = ["Arc", "Graph", "expand", "numerator"]

_FRAMES_PER_SECOND = 100.0  # RASR's timeframe-index-scale


@dataclass(frozen=True)
class Arc:
    """A pronunciation between two nodes.

    Attributes:
        source, target: nodes of the graph.
        item: the index of (labels, start, end) in the graph's items.
        score: -ln of the arc's own probability: the lattice's part "total".
        lemma: the lemma that is pronounced.
    """

    source: int
    target: int
    item: int
    score: float
    lemma: Lemma


@dataclass(frozen=True)
class Graph:
    """Arcs in topological order, from node 0 to the final nodes.

    Attributes:
        num_nodes: the number of nodes.
        final: the final nodes.
        arcs: the arcs.
        items: (labels, first frame, end frame) of the pronunciations, each once.
    """

    num_nodes: int
    final: frozenset[int]
    arcs: tuple[Arc, ...]
    items: tuple[tuple[tuple[int, ...], int, int], ...]


def expand(lattice: Lattice, lexicon: Lexicon, lm_scale: float, am_scale: float) -> Graph:
    """Replace each word by its pronunciations.

    Args:
        lattice: as RASR reads it.
        lexicon: of the acoustic model.
        lm_scale, am_scale: factors of the lattice's own scores.

    Raises:
        CriticalError: no path remains, because the lexicon lacks words.
    """
    times = lattice.times.tolist()
    frames = [math.floor((time - times[0]) * _FRAMES_PER_SECOND + 0.5) for time in times]
    scores = (-am_scale * lattice.acoustic - lm_scale * lattice.language).tolist()
    sources, targets = lattice.sources.tolist(), lattice.targets.tolist()
    items: dict[tuple[tuple[int, ...], int, int], int] = {}
    arcs = []
    unknown = lexicon.special("unknown")
    for arc in lattice.arc_order().tolist():
        word, source, target = lattice.words[arc], sources[arc], targets[arc]
        lemmas = lexicon.find_lemmas(tuple(word.split())) if word else []
        if not lemmas:
            warn(
                f"no matching lemma for orthographic form {word!r}; it is read as the unknown word [lattice]"
            )
            lemmas = [unknown] if unknown else []
        for lemma in lemmas:
            for pronunciation in lemma.pronunciations:
                key = (pronunciation.phonemes, frames[source], frames[target])
                item = items.setdefault(key, len(items))
                arcs.append(Arc(source, target, item, scores[arc], lemma))
    final = frozenset(lattice.is_final.nonzero()[0].tolist())
    reason = "no path consists of words of the lexicon"
    return _connected(Graph(lattice.num_nodes, final, tuple(arcs), tuple(items)), reason)


def numerator(graph: Graph, orthography: str, lexicon: Lexicon) -> Graph:
    """Return the paths that pronounce the reference.

    Raises:
        CriticalError: there is none. RASR ends: "Cannot calculate best from '…' because it is empty".
    """
    words = tuple(orthography.split())
    silence = lexicon.special("silence")
    nodes = {(0, 0): 0}
    reached: dict[int, list[int]] = {0: [0]}  # positions in the reference, by node of the lattice
    arcs = []
    for arc in graph.arcs:
        for position in reached.get(arc.source, ()):
            for end in _ends(arc.lemma, words, position, silence):
                target = nodes.setdefault((arc.target, end), len(nodes))
                if end not in reached.setdefault(arc.target, []):
                    reached[arc.target].append(end)
                arcs.append(Arc(nodes[arc.source, position], target, arc.item, arc.score, arc.lemma))
    final = frozenset(nodes[node, len(words)] for node in graph.final if (node, len(words)) in nodes)
    reason = f"no path has the reference {orthography.strip()!r}"
    return _connected(Graph(len(nodes), final, tuple(arcs), graph.items), reason)


def _ends(lemma: Lemma, words: tuple[str, ...], position: int, silence: Lemma | None) -> set[int]:
    ends = {
        position + len(spelling)
        for spelling in lemma.orthographies
        if spelling and words[position : position + len(spelling)] == spelling
    }
    return ends | {position} if lemma is silence else ends


def _connected(graph: Graph, reason: str) -> Graph:
    """Return the arcs on paths from node 0 to a final node.

    Raises:
        CriticalError: there are none, for this reason.
    """
    forward = {0}
    for arc in graph.arcs:
        if arc.source in forward:
            forward.add(arc.target)
    backward = set(graph.final)
    for arc in reversed(graph.arcs):
        if arc.target in backward:
            backward.add(arc.source)
    arcs = tuple(arc for arc in graph.arcs if arc.source in forward and arc.target in backward)
    if not arcs:
        raise CriticalError(f"cannot calculate best from the lattice because it is empty: {reason} [lattice]")
    return Graph(graph.num_nodes, graph.final, arcs, graph.items)
