"""CTC by enumerating all paths: slow, but it shares no algorithm with the code under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np


def ctc_by_paths(scores: Any, sequence: Sequence[int], blank: int) -> tuple[float, Any]:
    """Return loss and error signal of (time,label) scores, summed over all paths of the label sequence."""
    scores = np.asarray(scores, np.float64)
    frames = len(scores)
    total = 0.0
    occupied = np.zeros(scores.shape)
    for path in _paths(tuple(sequence), frames, blank, None):
        probability = np.exp(scores[range(frames), path].sum())
        total += probability
        occupied[range(frames), path] += probability
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return -np.log(total), softmax - occupied / total


def _paths(rest: tuple[int, ...], frames: int, blank: int, last: Optional[int]) -> Iterator[tuple[int, ...]]:
    """Yield all label paths of `frames` frames that spell the rest of the sequence after the label `last`."""
    if frames == 0:
        if not rest:
            yield ()
        return
    choices = {(blank, rest)}
    if last not in (None, blank):
        choices.add((last, rest))  # the last label continues
    if rest and rest[0] != last:
        choices.add((rest[0], rest[1:]))
    for label, then in choices:
        for path in _paths(then, frames - 1, blank, label):
            yield (label, *path)
