"""The CTC automaton of a lattice of pronunciations.

Each state but the start emits one label each time that it is entered. The topology is CTC's: a label may
repeat; a blank, repeated at will, may stand before, between and after labels, and must stand between two
equal ones. The criterion sums over the paths of this automaton; the same automaton, in the form that
RASR's allophone-state-fsa exporter has, is what Python can ask for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .orthography import Edge, Lattice

__all__ = ["Automaton", "ExportedAutomaton", "build_automaton"]


@dataclass(frozen=True)
class ExportedAutomaton:
    """An automaton in the form of RASR's exporter. One frame is consumed by each edge.

    Attributes:
        num_states: the number of states; 0 is the start, the last one the only final state.
        num_edges: the number of edges.
        edges: uint32 of length 3 * num_edges: all sources, then all targets, then all labels.
        weights: float32 of length num_edges, in -ln space.
    """

    num_states: int
    num_edges: int
    edges: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Automaton:
    """States that emit labels. State 0 is the start and emits nothing; arcs lead to equal or later states.

    Attributes:
        labels: int64 (state): the label of each state; -1 for the start.
        sources: int64 (arc).
        targets: int64 (arc); never 0.
        scores: float64 (arc), in -ln space.
        final_scores: float64 (state), in -ln space; infinite where a path must not end.
    """

    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    final_scores: npt.NDArray[np.float64]

    def export(self) -> ExportedAutomaton:
        """In RASR's form: each edge into a state where a path may end is doubled into the final state."""
        final = len(self.labels)
        ending = np.isfinite(self.final_scores[self.targets])
        sources = np.concatenate([self.sources, self.sources[ending]])
        targets = np.concatenate([self.targets, np.full(np.count_nonzero(ending), final)])
        labels = np.concatenate([self.labels[self.targets], self.labels[self.targets[ending]]])
        ends = self.scores[ending] + self.final_scores[self.targets[ending]]
        scores = np.concatenate([self.scores, ends])
        order = np.lexsort((sources, targets, targets - sources))
        edges = np.concatenate([sources[order], targets[order], labels[order]]).astype(np.uint32)
        return ExportedAutomaton(final + 1, len(sources), edges, scores[order].astype(np.float32))


def build_automaton(lattice: Lattice, blank: int) -> Automaton:
    """Build the CTC automaton of a lattice, with `blank` as the label of the blank."""
    return _Builder(lattice, blank).build()


class _Builder:
    def __init__(self, lattice: Lattice, blank: int) -> None:
        self._lattice = lattice
        self._blank = blank
        self._labels = [-1]
        self._final_scores = [math.inf]
        self._arcs: dict[tuple[int, int], float] = {}

    def build(self) -> Automaton:
        spoken: dict[int, list[Edge]] = defaultdict(list)
        silent: dict[int, list[Edge]] = defaultdict(list)
        for edge in self._lattice.edges:
            (spoken if edge.labels else silent)[edge.source].append(edge)
        # Words can be in contact across edges without labels: what each node can reach by these, and at
        # which score.
        reach: dict[int, dict[int, float]] = {}
        for node in range(self._lattice.node_count - 1, -1, -1):
            reach[node] = {node: 0.0}
            for edge in silent[node]:
                for other, score in reach[edge.target].items():
                    _add(reach[node], other, edge.score + score)

        # States are numbered so that arcs never lead back: at each node the blank, then the words.
        blanks: dict[int, int] = {}
        chains: dict[int, list[tuple[int, Edge]]] = defaultdict(list)
        last_states = [(0, 0)]
        entered = {0} | {edge.target for edges in spoken.values() for edge in edges}
        for node in range(self._lattice.node_count):
            if node in entered:
                blanks[node] = self._state(self._blank)
                self._arc(blanks[node], blanks[node])
            for edge in spoken[node]:
                first, last = self._chain(edge.labels)
                chains[node].append((first, edge))
                last_states.append((last, edge.target))

        end = self._lattice.node_count - 1
        for node, blank in blanks.items():
            last_states.append((blank, node))
        for state, node in last_states:
            if self._labels[state] != self._blank or state == 0:
                self._arc(state, blanks[node])
            if end in reach[node] and state != 0:
                self._final_scores[state] = reach[node][end]
            for other, score in reach[node].items():
                for first, edge in chains[other]:
                    # Without a blank between them, two equal labels would be one.
                    if self._labels[first] != self._labels[state]:
                        self._arc(state, first, score + edge.score)
        return self._automaton()

    def _state(self, label: int) -> int:
        self._labels.append(label)
        self._final_scores.append(math.inf)
        return len(self._labels) - 1

    def _arc(self, source: int, target: int, score: float = 0.0) -> None:
        _add(self._arcs, (source, target), score)

    def _chain(self, labels: tuple[int, ...]) -> tuple[int, int]:
        """The states of a pronunciation with the blanks within it; returns the first and the last."""
        first = state = self._state(labels[0])
        self._arc(state, state)
        for label in labels[1:]:
            blank = self._state(self._blank)
            following = self._state(label)
            self._arc(state, blank)
            self._arc(blank, blank)
            self._arc(blank, following)
            if label != self._labels[state]:
                self._arc(state, following)
            self._arc(following, following)
            state = following
        return first, state

    def _automaton(self) -> Automaton:
        pairs: npt.NDArray[Any] = np.array(list(self._arcs), dtype=np.int64)
        return Automaton(
            np.array(self._labels, dtype=np.int64),
            pairs[:, 0].copy(),
            pairs[:, 1].copy(),
            np.array(list(self._arcs.values()), dtype=np.float64),
            np.array(self._final_scores, dtype=np.float64),
        )


def _add(scores: dict[Any, float], key: Any, score: float) -> None:
    """Add a path to the sum at `key`, in -ln space."""
    if key in scores:
        low, high = sorted((scores[key], score))
        scores[key] = low - math.log1p(math.exp(low - high))
    else:
        scores[key] = score
