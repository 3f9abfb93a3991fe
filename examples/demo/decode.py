"""From posteriors to a label sequence, and how far it is from the transcript."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .data import FloatArray, Labels


def greedy(log_posteriors: FloatArray, labels: Labels) -> tuple[int, ...]:
    """The best label of each frame, repetitions merged, blank and silence taken out.

    Args:
        log_posteriors: (time, label) of one segment, without padding.
        labels: which of them are blank and silence.
    """
    best = np.argmax(log_posteriors, axis=1)
    starts = np.append(True, best[1:] != best[:-1])
    return tuple(int(label) for label in best[starts] if label not in (labels.blank, labels.silence))


def edit_distance(hypothesis: Sequence[int], reference: Sequence[int]) -> int:
    """The fewest insertions, deletions and substitutions that make one of the other (Levenshtein)."""
    previous = list(range(len(reference) + 1))
    for row, said in enumerate(hypothesis, start=1):
        current = [row]
        for column, expected in enumerate(reference, start=1):
            current.append(
                min(previous[column] + 1, current[column - 1] + 1, previous[column - 1] + (said != expected))
            )
        previous = current
    return previous[-1]
