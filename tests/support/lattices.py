"""MMI and minimum error on word lattices in float64, with no part of shmbridge: the oracle for all Sprints.

Sums over paths go from node to node, first forward for the values, then backward for the derivatives. Tests
compare the derivatives with finite differences of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = tuple[int, ...]


class Arc(NamedTuple):
    """A pronunciation between two nodes, with the score of the language model."""

    source: int
    target: int
    word: str
    labels: Labels
    language: float


class Alignment(NamedTuple):
    """The best alignment of an arc, from its first frame."""

    start: int
    labels: Array

    @property
    def frames(self) -> Array:
        return self.start + np.arange(len(self.labels))


class Task(NamedTuple):
    """A lattice and its reference.

    Attributes:
        frames: the frame of each node; the last one is final.
        arcs: in an order in which each follows all arcs that end at its source.
        reference: the spoken words.
    """

    frames: Sequence[int]
    arcs: Sequence[Arc]
    reference: Sequence[str]


def make_task(
    times: Sequence[float],
    arcs: Sequence[tuple[int, int, str, float]],
    reference: Sequence[str],
    lexicon: Mapping[str, Sequence[Labels]],
) -> Task:
    """Return the task of a lattice: arcs are source, target, word and language score."""
    frames = [round(100 * time) for time in times]
    spoken = [
        Arc(source, target, word, labels, score)
        for source, target, word, score in arcs
        for labels in lexicon[word]
    ]
    return Task(frames, sorted(spoken, key=lambda arc: (frames[arc.source], arc.source)), reference)


def align(labels: Labels, scores: Array) -> Array:
    """Return the label of each frame on the best path through the labels; scores are (time,label)."""
    num_frames, num_labels = len(scores), len(labels)
    best = np.full((num_frames, num_labels), -np.inf)
    best[0, 0] = scores[0, labels[0]]
    for t in range(1, num_frames):
        for k in range(min(t + 1, num_labels)):
            best[t, k] = max(best[t - 1, k], best[t - 1, k - 1] if k else -np.inf) + scores[t, labels[k]]
    path = [num_labels - 1]
    for t in range(num_frames - 1, 0, -1):
        k = path[-1]
        path.append(k - 1 if k and best[t - 1, k - 1] > best[t - 1, k] else k)
    return np.array([labels[k] for k in reversed(path)])


class Oracle:
    """The criteria of one lattice for given log posteriors.

    Args:
        task: the lattice.
        log_posteriors: (time,label).
        alignment_scores: (time,label), the scores with which arcs are aligned; None: the log posteriors.
        acoustic_scale, lattice_scale: factors of the log posteriors and of the language scores.
    """

    def __init__(
        self,
        task: Task,
        log_posteriors: Array,
        alignment_scores: Optional[Array] = None,
        acoustic_scale: float = 1.0,
        lattice_scale: float = 1.0,
    ) -> None:
        self._task = task
        self._shape = log_posteriors.shape
        matrix = np.asarray(log_posteriors, np.float64)
        aligned = matrix if alignment_scores is None else alignment_scores
        self._alignments, self._weights = [], []
        for arc in task.arcs:
            start, end = task.frames[arc.source], task.frames[arc.target]
            alignment = Alignment(start, align(arc.labels, aligned[start:end]))
            self._alignments.append(alignment)
            acoustic = matrix[alignment.frames, alignment.labels].sum()
            self._weights.append(acoustic_scale * acoustic + lattice_scale * arc.language)

    def mmi(self) -> tuple[float, Array]:
        """Return the loss, and its derivative by the log posteriors over the acoustic scale."""
        log_z, occupations = self._sums(self._edges())
        log_z_reference, occupations_reference = self._sums(self._reference_edges())
        return log_z - log_z_reference, self._spread(occupations - occupations_reference)

    def minimum_error(self) -> tuple[float, Array]:
        """Return the loss, and its derivative by the log posteriors over the acoustic scale."""
        accuracies = self._accuracies()
        _, occupations = self._sums(self._edges())
        # If h times the accuracies is added to the weights, the derivative of an occupation by h is the
        # occupation times the difference of the accuracy of the paths through the arc from the mean.
        h = 1e-6
        moved = []
        for sign in (1, -1):
            weights = [w + sign * h * a for w, a in zip(self._weights, accuracies)]
            moved.append(self._sums(self._edges(), weights)[1])
        return -float(occupations @ accuracies), self._spread(-(moved[0] - moved[1]) / (2 * h))

    def _edges(self) -> list[tuple[int, int, int]]:
        return [(arc.source, arc.target, index) for index, arc in enumerate(self._task.arcs)]

    def _reference_edges(self) -> list[tuple[int, int, int]]:
        """Return the arcs of the paths that say the reference. Nodes are numbered (node, words so far)."""
        words = self._task.reference
        stride = len(words) + 1
        edges = []
        for index, arc in enumerate(self._task.arcs):
            for said in range(stride):
                if arc.word == "[SILENCE]":
                    edges.append((arc.source * stride + said, arc.target * stride + said, index))
                elif said < len(words) and words[said] == arc.word:
                    edges.append((arc.source * stride + said, arc.target * stride + said + 1, index))
        return edges

    def _sums(
        self, edges: list[tuple[int, int, int]], weights: Optional[Sequence[float]] = None
    ) -> tuple[float, Array]:
        """Return ln of the sum over all paths to the last node, and each arc's share of it."""
        weights = self._weights if weights is None else weights
        num_nodes = 1 + max(target for _, target, _ in edges)
        forward = np.full(num_nodes, -np.inf)
        forward[0] = 0
        for source, target, index in edges:
            forward[target] = np.logaddexp(forward[target], forward[source] + weights[index])
        backward = np.full(num_nodes, -np.inf)
        backward[-1] = 0
        for source, target, index in reversed(edges):
            backward[source] = np.logaddexp(backward[source], weights[index] + backward[target])
        occupations = np.zeros(len(self._task.arcs))
        for source, target, index in edges:
            occupations[index] += np.exp(forward[source] + weights[index] + backward[target] - forward[-1])
        return float(forward[-1]), occupations

    def _spread(self, occupations: Array) -> Array:
        matrix = np.zeros(self._shape)
        for alignment, occupation in zip(self._alignments, occupations):
            matrix[alignment.frames, alignment.labels] += occupation
        return matrix

    def _accuracies(self) -> list[float]:
        _, occupied = self._sums(self._reference_edges())
        reference = {
            phone
            for alignment, share in zip(self._alignments, occupied)
            if share > 0
            for phone in phones(alignment.labels.tolist(), alignment.start)
        }
        return [
            sum(accuracy(phone, reference) for phone in phones(alignment.labels.tolist(), alignment.start))
            for alignment in self._alignments
        ]


def phones(labels: Sequence[int], start: int) -> list[tuple[int, int, int]]:
    """Return (label, begin, end) of each stretch of one label; the first label is that of frame `start`."""
    edges = [0, *(t for t in range(1, len(labels)) if labels[t] != labels[t - 1]), len(labels)]
    return [(labels[b], start + b, start + e) for b, e in zip(edges, edges[1:])]


def accuracy(phone: tuple[int, int, int], reference: set[tuple[int, int, int]]) -> float:
    """Return the approximate accuracy of one phone."""
    found = []
    for label, begin, end in reference:
        overlap = min(end, phone[2]) - max(begin, phone[1])
        if overlap > 0:
            found.append((2 if label == phone[0] else 1) * overlap / (end - begin) - 1)
    return max(found, default=0.0)


def finite_differences(loss: Callable[[Array], float], matrix: Array, step: float) -> Array:
    """Return the gradient of a loss at a matrix."""
    gradient = np.zeros(matrix.shape)
    for place in np.ndindex(*matrix.shape):
        losses = []
        for sign in (1, -1):
            moved = matrix.copy()
            moved[place] += sign * step
            losses.append(loss(moved))
        gradient[place] = (losses[0] - losses[1]) / (2 * step)
    return gradient
