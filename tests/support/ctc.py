"""CTC by enumeration, in float64 and with no part of shmbridge: the oracle for all Sprints of the tests.

Graves et al. 2006: the loss is -ln of the summed probability of all paths that mean one of the sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = tuple[int, ...]


class Enumerated(NamedTuple):
    """The loss of a segment, infinite if no path is long enough.

    Attributes:
        occupation: (time,label), the probability of each label given the sequences.
        error_signal: (time,label), the gradient before the softmax: y - y_hat.
    """

    loss: float
    occupation: Array
    error_signal: Array


def enumerate_ctc(scores: npt.ArrayLike, sequences: Mapping[Labels, float], blank: int) -> Enumerated:
    """Sum over every single path of every sequence.

    Args:
        scores: (time,label) log posteriors.
        sequences: the probability of each label sequence.
        blank: the label of the blank.
    """
    scores = np.asarray(scores, np.float64)
    times = np.arange(len(scores))
    total, occupation = 0.0, np.zeros(scores.shape)
    for labels, weight in sequences.items():
        for path in paths_of(labels, len(scores), blank):
            probability = weight * math.exp(scores[times, path].sum())
            total += probability
            occupation[times, path] += probability
    softmax = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    if total == 0:
        return Enumerated(math.inf, occupation, softmax)
    occupation /= total
    return Enumerated(-math.log(total), occupation, softmax - occupation)


def paths_of(labels: Sequence[int], time: int, blank: int, last: Optional[int] = None) -> Iterator[Labels]:
    """Return all paths of this length for the labels, if the label before the path is `last`."""
    if time == 0:
        if not labels:
            yield ()
        return
    choices = {(blank, tuple(labels))}
    if last not in (None, blank):
        choices.add((last, tuple(labels)))  # the last label continues
    if labels and labels[0] != last:
        choices.add((labels[0], tuple(labels[1:])))
    for label, rest in choices:
        for path in paths_of(rest, time - 1, blank, label):
            yield (label, *path)


def automaton_loss(posteriors: npt.ArrayLike, edges: Array, weights: Array, start: int, end: int) -> float:
    """Return -ln of the summed probability of all paths through an automaton; each edge consumes a frame.

    Args:
        posteriors: (time,label) log posteriors.
        edges: (3,E) from, to, emission; more rows are ignored.
        weights: (E,) -ln of the edges' probabilities.
        start: the state before the first frame.
        end: the state after the last.
    """
    source, target, emission = edges[:3].astype(np.int64)
    sums = np.full(max(source.max(), target.max(), start, end) + 1, -np.inf)
    sums[start] = 0.0
    for scores in np.asarray(posteriors, np.float64):
        after = np.full(sums.shape, -np.inf)
        np.logaddexp.at(after, target, sums[source] + scores[emission] - weights)
        sums = after
    return -float(sums[end])
