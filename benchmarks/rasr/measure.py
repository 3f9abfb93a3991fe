"""Rounds of all ways in turn."""

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

_TIMEOUT = 600  # seconds for a round, after which a way is given up

Results = dict[str, Any]


def measure(work: Work, entries: Sequence[Entry], rounds: int, told: Callable[[int], None]) -> Results:
    """Measure the ways.

    Args:
        work: the batch.
        entries: the ways; both with no parent and our control loop have to be among them.
        rounds: how often it is each way's turn, beside a first one that is not counted: in that, Sprint
            reads its corpus and builds its model.
        told: is called with the number of each round that is done.

    Returns:
        For each way its title, and either `seconds` of a segment, `ratio` to the time with no parent (whose
        name is `alone`) and seconds `added` to it, and the largest relative `loss_difference`; or why it is
        `unavailable`.

    Raises:
        PeerFailedError, ShmbridgeError, OSError: one of our own ways has failed, or its losses are others
            than without a parent.
    """
    runs = {entry.name: _Run(entry, work) for entry in entries}
    with contextlib.ExitStack() as stack:
        for run in runs.values():
            stack.callback(run.close)
            run.attempt(run.start)
        for number in range(rounds + 1):  # the first is not counted
            _one_round(runs, number, work.names)
            told(number)
    segments = len(work.names)
    alone = {entry.name: runs[entry.alone].per_segment(segments) for entry in entries}
    return {name: run.result(segments, alone[name]) for name, run in runs.items()}


def _one_round(runs: Mapping[str, _Run], number: int, names: Sequence[str]) -> None:
    """Everybody's turn, in an order that rotates; then the results are compared."""
    alive = [run for run in runs.values() if run.reason is None]
    start = number % len(alive)
    for run in alive[start:] + alive[:start]:
        run.attempt(run.take_turn)
    expected = runs[ALONE.name].last
    reference = runs[BRIDGE.name].last
    if expected is None or reference is None:
        raise RuntimeError("our own ways are never left out")
    if number > 0:
        reference = dataclasses.replace(reference, error_signal=None)  # once is enough
    for run in alive:
        run.attempt(partial(run.compare, names, expected, reference))
    for run in alive:
        run.finish_round(counts=number > 0)


class _Run:
    """A way while it runs, and its durations.

    Attributes:
        reason: why it cannot run, or None.
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
        """Do a step. What fails is an error if the way is ours, else the reason why it is not measured."""
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
            raise RuntimeError(f"{self._entry.name} has not been started")
        self.last = self._way.round()

    def compare(self, names: Sequence[str], expected: Round, reference: Round) -> None:
        """Hold the last round's losses against those without a parent, and its error signals against ours."""
        if self.last is None:
            raise RuntimeError(f"{self._entry.name} has not taken its turn")
        agreement.check_losses(names, self.last.losses, expected.losses)
        difference = np.max(np.abs(self.last.losses / expected.losses - 1))
        self._loss_difference = max(self._loss_difference, float(difference))
        agreement.check_error_signals(names, expected.losses, self.last.error_signal, reference.error_signal)

    def finish_round(self, *, counts: bool) -> None:
        """The error signals are not needed any more."""
        if self.last is not None and self.reason is None and counts:
            self._nanoseconds.append(self.last.nanoseconds)
        if self.last is not None:
            self.last = dataclasses.replace(self.last, error_signal=None)

    def close(self) -> None:
        """End it. May be called again."""
        way, self._way = self._way, None
        if way is not None:
            way.__exit__(None, None, None)

    def per_segment(self, segments: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Nanoseconds of a segment in each round."""
        return np.array(self._nanoseconds, np.float64) / segments

    def result(self, segments: int, alone: np.ndarray[Any, np.dtype[np.float64]]) -> Results:
        """What is reported."""
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
