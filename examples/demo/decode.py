"""Greedy CTC decoding, alignments and hypotheses near them, and the edit distance to the transcript."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Optional

import numpy as np

from .data import FloatArray, Labels

_UNLIKELY = -9.0  # the log posterior below which a label is not in a hypothesis
_INSERTIONS = 2  # for each stretch of blanks


class Stretch(NamedTuple):
    """A label from a frame to before another."""

    label: int
    start: int
    end: int


def greedy(log_posteriors: FloatArray, labels: Labels) -> tuple[int, ...]:
    """Return the best label of each frame, with repetitions merged, without blank and silence.

    Args:
        log_posteriors: (time, label) of one segment, without padding.
        labels: the labels, with blank and silence.
    """
    best = np.argmax(log_posteriors, axis=1)
    starts = np.append(True, best[1:] != best[:-1])
    return tuple(int(label) for label in best[starts] if label not in (labels.blank, labels.silence))


def align(log_posteriors: FloatArray, sequence: Sequence[int], blank: int) -> Optional[list[Stretch]]:
    """Return the best alignment of a label sequence; None if it needs more frames.

    Args:
        log_posteriors: (time, label) of one segment, without padding.
        sequence: labels without blanks.
        blank: the label of the blank.
    """
    frames = len(log_posteriors)
    states = np.full(2 * len(sequence) + 1, blank)
    states[1::2] = sequence
    # A blank between different labels may be left out.
    skippable = (states[2:] != states[:-2]) & (states[2:] != blank)
    emissions = log_posteriors[:, states]
    score = np.full(len(states), -np.inf)
    score[:2] = emissions[0, :2]
    steps = np.zeros((frames, len(states)), np.intp)
    before = np.full((3, len(states)), -np.inf)
    for frame in range(1, frames):
        before[0] = score
        before[1, 1:] = score[:-1]
        before[2, 2:] = np.where(skippable, score[:-2], -np.inf)
        steps[frame] = before.argmax(0)
        score = before.max(0) + emissions[frame]
    state = len(states) - 1
    if len(states) > 1 and score[-2] > score[-1]:
        state -= 1
    if not np.isfinite(score[state]):
        return None
    path = []
    for frame in reversed(range(frames)):
        path.append(int(states[state]))
        state -= steps[frame, state]
    return _stretches(path[::-1])


def alternatives(
    log_posteriors: FloatArray, alignment: Sequence[Stretch], blank: int, substitutes: int
) -> Iterator[list[Stretch]]:
    """Yield the likely hypotheses that differ from an alignment in one label. They share its times.

    Args:
        log_posteriors: (time, label) of one segment, without padding.
        alignment: of the transcript.
        blank: the label of the blank.
        substitutes: the largest number of other labels in place of each label.
    """
    for place, (label, start, end) in enumerate(alignment):
        before, after = alignment[:place], alignment[place + 1 :]
        # A label next to an equal one would be the same label in CTC.
        excluded = {blank, label, *(each.label for each in (*before[-1:], *after[:1]))}
        best = log_posteriors[start:end].max(0)
        others = [
            int(other) for other in np.argsort(-best) if other not in excluded and best[other] > _UNLIKELY
        ]
        if label != blank:
            for other in [blank, *others[:substitutes]]:
                yield [*before, Stretch(other, start, end), *after]
        else:
            for other in others[:_INSERTIONS]:
                peak = start + int(log_posteriors[start:end, other].argmax())
                inside = (
                    Stretch(blank, start, peak),
                    Stretch(other, peak, peak + 1),
                    Stretch(blank, peak + 1, end),
                )
                yield [*before, *(each for each in inside if each.start < each.end), *after]


def _stretches(path: Sequence[int]) -> list[Stretch]:
    stretches, start = [], 0
    for label, group in groupby(path):
        end = start + len(list(group))
        stretches.append(Stretch(label, start, end))
        start = end
    return stretches


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
