"""MMI and minimum error on word lattices.

MMI:  loss = ln Z(lattice) - ln Z(reference), error signal = occupation in the lattice - in the reference.
ME:   loss = -(expected accuracy), error signal = -occupation x (accuracy of the arc - expected accuracy).

The error signal is the gradient of the loss with respect to the log posteriors, divided by the acoustic
scale: as in RASR, which leaves the scale out. Accuracies are approximate phone accuracies
[Povey and Woodland 2002].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np

from shmbridge.bliss.lexicon import Lexicon
from shmbridge.lattices import Lattice

from .lattice_alignment import Alignments, align
from .lattice_arcs import Graph, expand, numerator

__all__ = ["LatticeCriterion", "Outcome"]

_Floats = np.ndarray[Any, np.dtype[np.float64]]


class Outcome(NamedTuple):
    """Loss and error signal (time,label) of a segment, and the alignments of its arcs."""

    loss: float
    error_signal: _Floats
    alignments: Alignments


@dataclass(frozen=True)
class LatticeCriterion:
    """A criterion and its scales.

    Attributes:
        is_mmi: MMI; else minimum error.
        acoustic_scale, lattice_scale: factors of the network's and of the lattice's scores in `total`.
        accuracy_scale: factor of the accuracies in `accuracy`.
        lm_scale, am_scale: factors of the scores in the lattice's file.
        short_pauses: labels that do not count as phones.
    """

    is_mmi: bool
    acoustic_scale: float = 1.0
    lattice_scale: float = 1.0
    accuracy_scale: float = 1.0
    lm_scale: float = 1.0
    am_scale: float = 0.0
    short_pauses: frozenset[int] = frozenset()

    def __call__(
        self,
        lattice: Lattice,
        orthography: str,
        lexicon: Lexicon,
        log_posteriors: _Floats,
        kept: Optional[Alignments] = None,
    ) -> Optional[Outcome]:
        """Return the outcome for log_posteriors (time,label); None if RASR discards the segment.

        Args:
            lattice, orthography, lexicon: of the segment.
            log_posteriors: (time,label).
            kept: alignments of the same lattice, to use again.

        Raises:
            CriticalError: the lattice does not contain the reference, or is empty.
        """
        graph = expand(lattice, lexicon, self.lm_scale, self.am_scale)
        reference = numerator(graph, orthography, lexicon)
        alignments = align(graph, log_posteriors) if kept is None else kept.rescored(log_posteriors)
        if alignments is None:
            return None
        outcome = (self._mmi if self.is_mmi else self._minimum_error)(graph, reference, alignments)
        if outcome is None:
            return None
        loss, occupation = outcome
        error_signal = np.zeros(log_posteriors.shape)
        np.add.at(error_signal, (alignments.frames, alignments.labels), occupation[alignments.items])
        return Outcome(loss, error_signal, alignments)

    def _weights(self, graph: Graph, alignments: Alignments) -> list[float]:
        acoustic = (self.acoustic_scale * alignments.scores).tolist()
        return [-acoustic[arc.item] - self.lattice_scale * arc.score for arc in graph.arcs]

    def _mmi(self, graph: Graph, reference: Graph, alignments: Alignments) -> Optional[tuple[float, _Floats]]:
        log_z, occupation = 0.0, np.zeros(len(graph.items))
        for part, sign in ((graph, 1), (reference, -1)):
            flow = _Flow.of(part, self._weights(part, alignments))
            if flow is None:
                return None
            log_z += sign * flow.log_z
            np.add.at(occupation, [arc.item for arc in part.arcs], sign * flow.posteriors)
        return log_z, occupation

    def _minimum_error(
        self, graph: Graph, reference: Graph, alignments: Alignments
    ) -> Optional[tuple[float, _Floats]]:
        flow = _Flow.of(graph, self._weights(graph, alignments))
        if flow is None:
            return None
        accuracy = self.accuracy_scale * _accuracies(graph, reference, alignments, self.short_pauses)
        expected, through = flow.expectation(graph, [accuracy[arc.item] for arc in graph.arcs])
        occupation = np.zeros(len(graph.items))
        np.add.at(occupation, [arc.item for arc in graph.arcs], -flow.posteriors * (through - expected))
        return -expected, occupation


@dataclass(frozen=True)
class _Flow:
    """Forward and backward sums over the paths of a graph, as logarithms, by node; and what follows."""

    weights: list[float]
    forward: list[float]
    backward: list[float]
    log_z: float
    posteriors: _Floats

    @classmethod
    def of(cls, graph: Graph, weights: list[float]) -> Optional[_Flow]:
        """Return the flow; None if no path has a positive probability."""
        forward = [-math.inf] * graph.num_nodes
        forward[0] = 0.0
        for arc, weight in zip(graph.arcs, weights):
            forward[arc.target] = _log_add(forward[arc.target], forward[arc.source] + weight)
        backward = [0.0 if node in graph.final else -math.inf for node in range(graph.num_nodes)]
        for arc, weight in zip(reversed(graph.arcs), reversed(weights)):
            backward[arc.source] = _log_add(backward[arc.source], backward[arc.target] + weight)
        log_z = backward[0]
        if log_z == -math.inf:
            return None
        posteriors = np.exp(
            [forward[a.source] + w + backward[a.target] - log_z for a, w in zip(graph.arcs, weights)]
        )
        return cls(weights, forward, backward, log_z, posteriors)

    def expectation(self, graph: Graph, values: list[float]) -> tuple[float, _Floats]:
        """Return the expected sum of the arcs' values, and that of the paths through each arc."""
        before = [0.0] * graph.num_nodes
        for arc, weight, value in zip(graph.arcs, self.weights, values):
            share = _exp(self.forward[arc.source] + weight - self.forward[arc.target])
            before[arc.target] += share * (before[arc.source] + value)
        after = [0.0] * graph.num_nodes
        for arc, weight, value in zip(reversed(graph.arcs), reversed(self.weights), reversed(values)):
            share = _exp(self.backward[arc.target] + weight - self.backward[arc.source])
            after[arc.source] += share * (after[arc.target] + value)
        through = [before[arc.source] + value + after[arc.target] for arc, value in zip(graph.arcs, values)]
        return after[0], np.array(through)


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _exp(difference: float) -> float:
    return 0.0 if math.isnan(difference) else math.exp(difference)  # NaN: no path reaches the node


def _accuracies(
    graph: Graph, reference: Graph, alignments: Alignments, short_pauses: frozenset[int]
) -> _Floats:
    """Return the approximate phone accuracy of each item: the sum over its phones.

    A phone is a stretch of one label. Its accuracy is the best over the phones of the reference that overlap
    it, whose share e of the reference's phone counts: 2e - 1 if the labels are equal, else e - 1.
    """
    items, starts, ends, labels = _phones(alignments)
    in_reference = np.isin(items, [arc.item for arc in reference.arcs])
    spoken = np.unique(np.stack([starts, ends, labels], 1)[in_reference], axis=0)
    counted = ~np.isin(labels, list(short_pauses))
    items, starts, ends, labels = items[counted], starts[counted], ends[counted], labels[counted]
    overlap = np.minimum(ends[:, None], spoken[:, 1]) - np.maximum(starts[:, None], spoken[:, 0])
    share = overlap / (spoken[:, 1] - spoken[:, 0])
    accuracy = np.where(labels[:, None] == spoken[:, 2], 2 * share, share) - 1
    best = np.where(overlap > 0, accuracy, -np.inf).max(1, initial=-np.inf)
    total = np.zeros(len(graph.items))
    np.add.at(total, items, np.where(np.isinf(best), 0.0, best))
    return total


def _phones(alignments: Alignments) -> tuple[Any, Any, Any, Any]:
    """Return item, first frame, end frame and label of each stretch of one label within an item."""
    items, frames, labels = alignments.items, alignments.frames, alignments.labels
    begins = np.ones(len(items), np.bool_)
    begins[1:] = (items[1:] != items[:-1]) | (labels[1:] != labels[:-1])
    first = np.nonzero(begins)[0]
    last = np.append(first[1:], len(items)) - 1
    return items[first], frames[first], frames[last] + 1, labels[first]
