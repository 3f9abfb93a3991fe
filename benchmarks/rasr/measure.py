"""Measure rounds of all ways, in turn."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np

from ..percentiles import summarise
from ..unavailable import deadline, reason_of
from . import agreement
from .way import Round, Way
from .ways import ALONE, BRIDGE, Entry
from .work import Work

_TIMEOUT = 600  # seconds for a round

Results = dict[str, Any]


def measure(work: Work, entries: Sequence[Entry], rounds: int, on_round: Callable[[int], None]) -> Results:
    """Measure the ways.

    Args:
        work: the batch.
        entries: the ways, which must include shmbridge's control loop and both without a parent.
        rounds: number of rounds. A first one, in which Sprint reads its corpus and builds its model, is added
            and not counted.
        on_round: called after each round with its number.

    Returns:
        For each way its title, and either `seconds` of a segment, `ratio` to the way without a parent (whose
        name is `alone`), seconds `added` to it, and the largest relative `loss_difference`; or the reason why
        it is `unavailable`.

    Raises:
        PeerFailedError, ShmbridgeError, OSError: one of shmbridge's ways failed, or its losses differ from
            those without a parent.
    """
    runs = {entry.name: _Run(entry, work) for entry in entries}
    with contextlib.ExitStack() as stack:
        for run in runs.values():
            stack.callback(run.close)
            run.attempt(run.start)
        for number in range(rounds + 1):  # the first is not counted
            _one_round(runs, number, work.names)
            on_round(number)
    segments = len(work.names)
    alone = {entry.name: runs[entry.alone].per_segment(segments) for entry in entries}
    return {name: run.result(segments, alone[name]) for name, run in runs.items()}


def _one_round(runs: Mapping[str, _Run], number: int, names: Sequence[str]) -> None:
    """Give each way its turn, in an order that rotates, and compare the results."""
    alive = [run for run in runs.values() if run.reason is None]
    start = number % len(alive)
    for run in alive[start:] + alive[:start]:
        run.attempt(run.take_turn)
    expected = runs[ALONE.name].last
    reference = runs[BRIDGE.name].last
    if expected is None or reference is None:
        raise RuntimeError("a way without a result was not removed")
    if number > 0:
        reference = dataclasses.replace(reference, error_signal=None)  # compared in the first round only
    for run in alive:
        run.attempt(partial(run.compare, names, expected, reference))
    for run in alive:
        run.finish_round(counts=number > 0)


class _Run:
    """A running way and its durations.

    Attributes:
        reason: why the way cannot run, or None.
        last: its last round.
    """

    def __init__(self, entry: Entry, work: Work) -> None:
        self.reason: Optional[str] = None
        self.last: Optional[Round] = None
        self._entry = entry
        self._work = work
        self._way: Optional[Way] = None
        self._nanoseconds: list[int] = []
        self._loss_difference = 0.0

    def attempt(self, step: Callable[[], None]) -> None:
        """Do a step. If it fails, raise the error for shmbridge's ways, and store the reason for others."""
        if self.reason is not None:
            return
        try:
            with deadline(_TIMEOUT):
                step()
        except Exception as error:
            if self._entry.ours:
                raise
            self.reason = reason_of(error)
            with contextlib.suppress(Exception):
                self.close()

    def start(self) -> None:
        """Start the nn-trainer."""
        way = self._entry.load()(self._work)
        way.__enter__()
        self._way = way

    def take_turn(self) -> None:
        """Compute the batch."""
        if self._way is None:
            raise RuntimeError(f"{self._entry.name} was not started")
        self.last = self._way.round()

    def compare(self, names: Sequence[str], expected: Round, reference: Round) -> None:
        """Compare the losses with those without a parent, and the error signals with shmbridge's."""
        if self.last is None:
            raise RuntimeError(f"{self._entry.name} had no turn")
        agreement.check_losses(names, self.last.losses, expected.losses)
        difference = np.max(np.abs(self.last.losses / expected.losses - 1))
        self._loss_difference = max(self._loss_difference, float(difference))
        agreement.check_error_signals(names, expected.losses, self.last.error_signal, reference.error_signal)

    def finish_round(self, *, counts: bool) -> None:
        """Store the duration, if it counts, and drop the error signals."""
        if self.last is not None and self.reason is None and counts:
            self._nanoseconds.append(self.last.nanoseconds)
        if self.last is not None:
            self.last = dataclasses.replace(self.last, error_signal=None)

    def close(self) -> None:
        """End the way. Further calls do nothing."""
        way, self._way = self._way, None
        if way is not None:
            way.__exit__(None, None, None)

    def per_segment(self, segments: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the nanoseconds of a segment in each round."""
        return np.array(self._nanoseconds, np.float64) / segments

    def result(self, segments: int, alone: np.ndarray[Any, np.dtype[np.float64]]) -> Results:
        """Return the result of this way."""
        if self.reason is not None:
            return {"title": self._entry.title, "unavailable": self.reason}
        durations = self.per_segment(segments)
        return {
            "title": self._entry.title,
            "seconds": summarise(durations),
            "alone": self._entry.alone,
            "ratio": _percentiles(durations / alone),
            "added": _percentiles((durations - alone) / 1e9),
            "loss_difference": self._loss_difference,
        }


def _percentiles(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    p10, p50, p90 = np.percentile(values, [10, 50, 90]).tolist()
    return {"p10": p10, "p50": p50, "p90": p90}
