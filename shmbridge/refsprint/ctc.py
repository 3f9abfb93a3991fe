"""Connectionist temporal classification: sum over the paths of an automaton, and its gradient."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from .automaton import Automaton

__all__ = ["CtcResult", "ForwardBackward"]


class CtcResult(NamedTuple):
    """The sum over the paths.

    Attributes:
        loss: -ln of the sum over all paths of the product of their posteriors and arc probabilities.
        labels: (used,) int64, the labels that occur in the automaton.
        occupation: (time, used) float64, the probability, given the automaton, that a path emits the label in
            the frame. RASR calls it reference probability or pseudo target.
    """

    loss: float
    labels: npt.NDArray[np.int64]
    occupation: npt.NDArray[np.float64]


class ForwardBackward:
    """Forward-backward over one automaton. Immutable, and so thread-safe.

    One vector holds the forward sums and, in reverse time, the backward sums. This halves the number of numpy
    calls per frame. Its last entry is always -inf: the predecessor of states with fewer predecessors than
    others.
    """

    def __init__(self, automaton: Automaton) -> None:
        # The start emits nothing, so it is not among these states.
        count = len(automaton.labels) - 1
        labels = automaton.labels[1:]
        started = automaton.sources == 0
        sources = automaton.sources[~started] - 1
        targets = automaton.targets[~started] - 1
        scores = -automaton.scores[~started]
        into = np.concatenate([targets, sources + count])
        out_of = np.concatenate([sources, targets + count])

        order = np.argsort(into, kind="stable")
        into, out_of, scores = into[order], out_of[order], np.concatenate([scores, scores])[order]
        slot = np.arange(len(into)) - np.searchsorted(into, into)
        depth = int(slot.max()) + 1 if len(slot) else 1
        self._previous = np.full((depth, 2 * count), 2 * count, dtype=np.intp)
        self._previous[slot, into] = out_of
        self._weights: Optional[npt.NDArray[np.float64]] = None
        if np.any(scores):
            self._weights = np.zeros((depth, 2 * count))
            self._weights[slot, into] = scores

        self._begin = np.full(count, -np.inf)
        self._begin[automaton.targets[started] - 1] = -automaton.scores[started]
        self._end = -automaton.final_scores[1:]
        self.labels, self._label_of_state = np.unique(labels, return_inverse=True)
        self._one_hot = np.zeros((count, len(self.labels)))
        self._one_hot[np.arange(count), self._label_of_state] = 1.0

    def sum_paths(self, log_posteriors: npt.NDArray[np.floating]) -> Optional[CtcResult]:
        """Sum over all paths.

        Args:
            log_posteriors: (time, used), natural logarithms, only of the labels in `labels`; time > 0.

        Returns:
            The result, or None if no path is possible: too few frames, or posteriors of zero.
        """
        emissions = log_posteriors.astype(np.float64)[:, self._label_of_state]
        time, count = emissions.shape
        both = np.concatenate([emissions, emissions[::-1]], axis=1)
        sums = np.empty((time, 2 * count + 1))
        sums[:, -1] = -np.inf
        sums[0, :count] = self._begin
        sums[0, count:-1] = self._end
        sums[0, :-1] += both[0]
        gathered = np.empty(self._previous.shape)
        previous, weights = self._previous, self._weights
        with np.errstate(invalid="ignore"):
            for t in range(1, time):
                # The indices are valid. With mode="clip", numpy does not allocate a buffer.
                np.take(sums[t - 1], previous, out=gathered, mode="clip")
                if weights is not None:
                    gathered += weights
                row = sums[t, :-1]
                np.logaddexp.reduce(gathered, axis=0, out=row)
                row += both[t]
            forward = sums[:, :count]
            backward = sums[::-1, count:-1]
            total = float(np.logaddexp.reduce(forward[-1] + self._end))
            if not np.isfinite(total):
                return None
            # Both sums include the emission of the frame. If it is -inf, so is the occupation.
            occupied = forward + backward
            np.subtract(occupied, emissions, out=occupied, where=emissions > -np.inf)
            occupied -= total
        return CtcResult(-total, self.labels, np.exp(occupied) @ self._one_hot)
