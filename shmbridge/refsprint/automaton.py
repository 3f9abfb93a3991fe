"""The CTC automaton of a lattice of pronunciations.

Each state but the start emits a label whenever it is entered. The topology is CTC's: a label may repeat, and
any number of blanks may occur before, between and after labels. Between two equal labels there must be a
blank. The criterion sums over the paths of this automaton. Python receives it in the format of RASR's
allophone-state-fsa exporter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from .orthography import Lattice

__all__ = ["Automaton", "ExportedAutomaton", "build_automaton"]


class ExportedAutomaton(NamedTuple):
    """An automaton in the format of RASR's exporter. Each edge consumes one frame.

    Attributes:
        num_states: the number of states. State 0 is the start; the last one is the only final state.
        num_edges: the number of edges.
        edges: (3 * num_edges,) uint32: all sources, then all targets, then all labels.
        weights: (num_edges,) float32, -ln of the probabilities.
    """

    num_states: int
    num_edges: int
    edges: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Automaton:
    """States that emit labels. State 0 is the start and emits nothing. Arcs lead to equal or later states.

    Attributes:
        labels: (state,) int64, the label of each state; -1 for the start.
        sources: (arc,) int64.
        targets: (arc,) int64, never 0.
        scores: (arc,) float64, -ln of the probabilities.
        final_scores: (state,) float64, -ln of the probabilities; infinite if a path must not end there.
    """

    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    final_scores: npt.NDArray[np.float64]

    def export(self) -> ExportedAutomaton:
        """Convert to RASR's format: duplicate each arc into a possible last state into the final state."""
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


_Node = tuple[int, int, int]


class _Step(NamedTuple):
    """An edge of the lattice, or a part of one, with at most one label."""

    source: _Node
    target: _Node
    label: Optional[int]
    score: float


def build_automaton(lattice: Lattice, blank: int) -> Automaton:
    """Build the CTC automaton of a lattice. `blank` is the label of the blank."""
    steps = list(_steps(lattice))
    nodes = sorted({node for step in steps for node in step[:2]})
    spoken: dict[_Node, list[_Step]] = defaultdict(list)
    silent: dict[_Node, list[_Step]] = defaultdict(list)
    for step in steps:
        (silent if step.label is None else spoken)[step.source].append(step)
    # reach: the nodes that each node reaches without a label, and the scores.
    reach: dict[_Node, dict[_Node, float]] = {}
    for node in reversed(nodes):
        reach[node] = {node: 0.0}
        for step in silent[node]:
            for other, score in reach[step.target].items():
                _add(reach[node], other, step.score + score)

    # At each node the blank comes first, then the labels, so that arcs never lead back.
    labels, targets = [-1], [nodes[0]]
    blanks: dict[_Node, int] = {}
    entries: dict[_Node, list[tuple[int, float]]] = defaultdict(list)
    entered = {nodes[0]} | {step.target for step in steps if step.label is not None}
    for node in nodes:
        if node in entered:
            blanks[node] = len(labels)
            labels.append(blank)
            targets.append(node)
        for step in spoken[node]:
            entries[node].append((len(labels), step.score))
            labels.append(step.label)  # type: ignore[arg-type] # spoken
            targets.append(step.target)

    arcs = {(state, state): 0.0 for state in range(1, len(labels))}
    final_scores = [math.inf] + [reach[node].get(nodes[-1], math.inf) for node in targets[1:]]
    for state, node in enumerate(targets):
        if labels[state] != blank:
            arcs[state, blanks[node]] = 0.0
        for other, score in reach[node].items():
            for first, entry_score in entries[other]:
                # Without a blank between them, two equal labels would merge into one.
                if labels[first] != labels[state]:
                    _add(arcs, (state, first), score + entry_score)
    pairs = np.array(list(arcs), dtype=np.int64)
    return Automaton(
        np.array(labels, dtype=np.int64),
        pairs[:, 0].copy(),
        pairs[:, 1].copy(),
        np.array(list(arcs.values()), dtype=np.float64),
        np.array(final_scores, dtype=np.float64),
    )


def _steps(lattice: Lattice) -> Iterator[_Step]:
    """Split the edges at their labels. The order of the new nodes is topological, too."""
    for number, edge in enumerate(lattice.edges, 1):
        inner = [(edge.source, number, i) for i in range(1, len(edge.labels))]
        nodes = [(edge.source, 0, 0), *inner, (edge.target, 0, 0)]
        scores = [edge.score] + [0.0] * len(inner)
        yield from map(_Step, nodes, nodes[1:], edge.labels or (None,), scores)


def _add(scores: dict[Any, float], key: Any, score: float) -> None:
    """Add a path to the sum at a key, in -ln space."""
    if key in scores:
        low, high = sorted((scores[key], score))
        scores[key] = low - math.log1p(math.exp(low - high))
    else:
        scores[key] = score
