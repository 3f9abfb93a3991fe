"""Greedy CTC decoding, and the edit distance to the transcript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .data import FloatArray, Labels


def greedy(log_posteriors: FloatArray, labels: Labels) -> tuple[int, ...]:
    """Return the best label of each frame, with repetitions merged, without blank and silence.

    Args:
        log_posteriors: (time, label) of one segment, without padding.
        labels: the labels, with blank and silence.
    """
    best = np.argmax(log_posteriors, axis=1)
    starts = np.append(True, best[1:] != best[:-1])
    return tuple(int(label) for label in best[starts] if label not in (labels.blank, labels.silence))


def edit_distance(hypothesis: Sequence[int], reference: Sequence[int]) -> int:
    """Return the Levenshtein distance: the minimum of insertions, deletions and substitutions."""
    previous = list(range(len(reference) + 1))
    for row, said in enumerate(hypothesis, start=1):
        current = [row]
        for column, expected in enumerate(reference, start=1):
            current.append(
                min(previous[column] + 1, current[column - 1] + 1, previous[column - 1] + (said != expected))
            )
        previous = current
    return previous[-1]
