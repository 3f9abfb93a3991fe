"""CTC by forward and backward sums, in float64 and with no part of shmbridge: the reference for RASR.

Segments of RASR are too long for support.ctc, which enumerates paths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def loss_and_error_signal(
    posteriors: np.ndarray, sequences: Sequence[tuple[float, Sequence[int]]], blank: int
) -> tuple[float, np.ndarray]:
    """Return the loss and the error signal (y - y_hat) of one segment.

    Graves et al. 2006: the loss is -ln of the summed probability of all paths that collapse to a sequence.

    Args:
        posteriors: (time,label) log posteriors.
        sequences: the possible label sequences: (probability, labels).
        blank: the label of the blank.
    """
    scores = posteriors.astype(np.float64)
    parts = [_forward_backward(scores, labels, blank) for _, labels in sequences]
    logs = np.array([np.log(p) + total for (p, _), (total, _) in zip(sequences, parts)])
    total = np.logaddexp.reduce(logs)
    # y is the softmax of the posteriors: the gradient is that before a softmax.
    error_signal = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    for log, (_, occupation) in zip(logs, parts):
        error_signal -= np.exp(log - total) * occupation
    return -float(total), error_signal


def _forward_backward(scores: np.ndarray, labels: Sequence[int], blank: int) -> tuple[float, np.ndarray]:
    """Return ln of the probability of a label sequence, and its occupation (time,label)."""
    states = [blank]
    for label in labels:
        states += [label, blank]
    emissions = scores[:, states]
    # A path may skip the blank between two different labels.
    skippable = np.array([s >= 2 and states[s] not in (blank, states[s - 2]) for s in range(len(states))])
    forward = _sweep(emissions, skippable)
    # The backward sweep is a mirrored forward sweep: a skip from s to s + 2 is a skip into s + 2.
    mirrored = np.array([s + 2 < len(states) and skippable[s + 2] for s in range(len(states))])[::-1]
    backward = _sweep(emissions[::-1, ::-1], mirrored)[::-1, ::-1]
    total = float(np.logaddexp.reduce(forward[-1, -2:]))
    # Both sums contain the emission.
    occupied = np.exp(forward + backward - emissions - total)
    occupation = np.zeros(scores.shape)
    np.add.at(occupation, (slice(None), states), occupied)
    return total, occupation


def _sweep(emissions: np.ndarray, skippable: np.ndarray) -> np.ndarray:
    sums = np.full(emissions.shape, -np.inf)
    sums[0, :2] = emissions[0, :2]
    for t in range(1, len(emissions)):
        before = sums[t - 1]
        reached = before.copy()
        reached[1:] = np.logaddexp(reached[1:], before[:-1])
        skipped = np.logaddexp(reached[2:], before[:-2])
        reached[2:] = np.where(skippable[2:], skipped, reached[2:])
        sums[t] = reached + emissions[t]
    return sums
