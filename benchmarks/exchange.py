"""The exchange: posteriors to a child with a null criterion, loss and error signal back.

All peers of a size run at the same time and take turns in blocks, so that other load affects all alike.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Sequence
from typing import Any, Optional

from .peers import Entry, Peer, PeerFailedError, Work
from .percentiles import summarise
from .progress import Progress
from .unavailable import deadline, reason_of

_TIMEOUT = 120  # seconds for a start or a block
_MAX_TRIPS = 1000  # in a block
_WARM_UP = 5  # round trips at the start of a block that are not counted


def measure(
    sizes: Sequence[tuple[int, int]],
    entries: Sequence[Entry],
    rounds: int,
    block_seconds: float,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measure all peers at all sizes.

    Args:
        sizes: (time,label) of the matrices.
        entries: the peers.
        rounds: number of turns of each peer.
        block_seconds: minimum duration of a turn.
        progress: shows the progress.

    Returns:
        For each size: rows, columns, bytes, and for each peer percentiles in seconds, or the reason why
        it is unavailable.
    """
    progress.begin("exchange", len(sizes) * (len(entries) + rounds))
    return [_measure_size(Work(*size), entries, rounds, block_seconds, progress) for size in sizes]


def _measure_size(
    work: Work, entries: Sequence[Entry], rounds: int, block_seconds: float, progress: Progress
) -> dict[str, Any]:
    title = f"{work.rows} x {work.columns}"
    results: dict[str, dict[str, Any]] = {}
    running: dict[Entry, _Running] = {}
    with contextlib.ExitStack() as stack:
        for entry in entries:
            progress.advance(f"{title}: starting {entry.title}")
            runner = _Running(entry, work, block_seconds)
            stack.callback(runner.close)
            reason = runner.start()
            if reason is None:
                running[entry] = runner
            else:
                results[entry.name] = {"unavailable": reason}
        # A garbage collection during a round trip must not scan the objects that exist already.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        for number in range(rounds):
            progress.advance(f"{title}: round {number + 1} of {rounds}")
            for entry in _rotated(list(running), number):
                reason = running[entry].block()
                if reason is not None:
                    results[entry.name] = {"unavailable": reason}
                    running.pop(entry).close()
    for entry, runner in running.items():
        results[entry.name] = summarise(runner.nanoseconds)
    return {
        "rows": work.rows,
        "columns": work.columns,
        "bytes": work.nbytes,
        "results": {entry.name: results[entry.name] for entry in entries},
    }


class _Running:
    """A running peer and its durations."""

    def __init__(self, entry: Entry, work: Work, block_seconds: float) -> None:
        self.nanoseconds: list[int] = []
        self._entry = entry
        self._work = work
        self._block_ns = int(block_seconds * 1e9)
        self._peer: Optional[Peer] = None
        self._warm_up = 0
        self._value = 0

    def start(self) -> Optional[str]:
        """Start the peer and warm it up. Return the reason if it cannot run."""
        try:
            with deadline(_TIMEOUT):
                peer = self._entry.load()(self._work)
                peer.__enter__()
                self._peer = peer
                peer.begin_block()
                # The first round trips map pages and may wait for the child to start.
                usual = min(self._round_trip(peer) for _ in range(3))
                peer.end_block()
        except Exception as error:
            self.close()
            return reason_of(error)
        # At the start of a block, the caches are cold and the child sleeps. If a block has room for only a
        # few round trips, each is so long that this does not matter.
        self._warm_up = _WARM_UP if usual * _WARM_UP < self._block_ns / 10 else 0
        return None

    def block(self) -> Optional[str]:
        """Measure one turn. Return the reason if it failed."""
        peer = self._peer
        if peer is None:
            return "it was not started"
        try:
            with deadline(_TIMEOUT):
                peer.begin_block()
                for _ in range(self._warm_up):
                    self._round_trip(peer)
                end = time.perf_counter_ns() + self._block_ns
                for _ in range(_MAX_TRIPS):
                    self.nanoseconds.append(self._round_trip(peer))
                    if time.perf_counter_ns() >= end:
                        break
                peer.end_block()
        except Exception as error:
            return reason_of(error)
        return None

    def close(self) -> None:
        """End the peer. Further calls do nothing."""
        peer, self._peer = self._peer, None
        if peer is not None:
            with contextlib.suppress(Exception):  # the figures are valid even if the peer fails to end
                peer.__exit__(None, None, None)

    def _round_trip(self, peer: Peer) -> int:
        """Do one round trip with a new value. Return its duration in nanoseconds."""
        self._value = self._value % 1000 + 1
        start = time.perf_counter_ns()
        returned = peer.round_trip(float(self._value))
        duration = time.perf_counter_ns() - start
        if returned != self._value:
            raise PeerFailedError(f"it returned {returned}; it must return {self._value}")
        return duration


def _rotated(entries: list[Entry], number: int) -> list[Entry]:
    """Rotate the order each round, so that no peer always follows the same one."""
    start = number % max(1, len(entries))
    return entries[start:] + entries[:start]
