"""Claims in any order while children are killed: each segment receives its own result.

A model of what the user holds says when a call may be refused: only for something that the user can send,
abort or release, and not for what was claimed later than the segment that waits.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import shmbridge
from support.internals import ChildProcess, children
from support.sprint_env import SprintEnv

RING_SIZE = 1 << 16  # holds three of the longest segments
FRAMES = (3, 4, 5, 300, 700, *[1300] * 9)
NAMES = [f"kórpus/rec/{index}" for index in range(len(FRAMES))]
REFUSALS = (shmbridge.UsageError, BufferError)
Choose = Callable[[int], int]  # an index below the number


class Segment:
    """The model's state of one claim."""

    def __init__(self, claim: Any, index: int, order: int, restarts: int) -> None:
        self.claim = claim
        self.index = index
        self.order = order  # among all claims
        self.restarts = restarts  # of the pool, when it was claimed
        self.late = False  # its Sprint ended before it was sent: it must queue again
        self.sent: Any = None  # the return value of send()
        self.result: Any = None


class Model:
    """A random user of the pool, with the expected state of each claim."""

    def __init__(
        self, pool: shmbridge.SprintInstancePool, posteriors: list[Any], expected: list[tuple[float, Any]]
    ) -> None:
        self.pool = pool
        self.posteriors = posteriors
        self.expected = expected
        self.segments: dict[str, Segment] = {}
        self.n_claims = 0
        self.n_kills = 0
        self.n_left = 0  # of refused batches: their segments are not resent after a death
        self.stopped: list[ChildProcess] = []

    # --- actions of the user; `choose` selects the claim

    def fill(self, choose: Choose) -> None:
        """Claim and send several segments, as a trainer does."""
        for _ in range(1 + choose(6)):
            segment = self._claim(choose)
            if segment is not None:
                self._send(segment)

    def claim_ahead(self, choose: Choose) -> None:
        """Claim the next segment before the results of the previous ones are received, as a trainer does."""
        ahead = self._claim(choose)
        self.result(choose)
        self.release(choose)
        if ahead is not None and choose(2):
            self._send(ahead)

    def send(self, choose: Choose) -> None:
        if self._open():
            self._send(self._open()[choose(len(self._open()))])

    def abort(self, choose: Choose) -> None:
        if self._open():
            segment = self._open()[choose(len(self._open()))]
            segment.claim.abort()
            del self.segments[NAMES[segment.index]]

    def result(self, choose: Choose) -> None:
        if self._sent():
            self._take(self._sent()[choose(len(self._sent()))])

    def result_in_no_time(self, choose: Choose) -> None:
        if self._sent():
            self._take(self._sent()[choose(len(self._sent()))], timeout=0)

    def release(self, choose: Choose) -> None:
        for _ in range(min(1 + choose(4), len(self._results()))):
            self._release(self._results()[choose(len(self._results()))])

    def batch(self, choose: Choose) -> None:
        indices = sorted({choose(len(NAMES)) for _ in range(3)})
        lengths = [FRAMES[index] for index in indices]
        posteriors = np.zeros((max(lengths), len(indices), 4), np.float32)
        for b, index in enumerate(indices):
            posteriors[: lengths[b], b] = self.posteriors[index]
        names = [NAMES[index] for index in indices]
        try:
            loss, error_signal = self._waiting(
                lambda: self.pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
            )
        except REFUSALS as error:
            self._check_refusal(error)
            self.n_left += len(indices)
            return
        for b, index in enumerate(indices):
            assert loss[b] == self.expected[index][0]
            np.testing.assert_array_equal(error_signal[: lengths[b], b], self.expected[index][1])

    # --- actions of Sprint

    def kill(self, choose: Choose) -> None:
        """Kill one child or all; the pool notices before or during the next call."""
        for process in self._processes(choose):
            self._end(process)
            if choose(2):
                process.wait_for_exit()

    def stop(self, choose: Choose) -> None:
        """Stop a child, and kill it while the pool waits for it."""
        for process in self._processes(choose):
            with contextlib.suppress(ProcessLookupError):  # already killed, and about to be reaped
                os.kill(process.pid, signal.SIGSTOP)
                self.stopped.append(process)

    # --- the model

    def _processes(self, choose: Choose) -> list[ChildProcess]:
        """Choose one or all of the running children that were ready."""
        living = [child for child in children(self.pool) if child.is_ready and child.is_running]
        chosen = choose(3)
        return living[chosen : chosen + 1] if chosen < 2 else living

    def _end(self, process: ChildProcess) -> None:
        self.n_kills += 1
        process.kill()

    def _end_stopped(self) -> None:
        while self.stopped:
            self._end(self.stopped.pop())

    def _waiting(self, call: Callable[[], Any]) -> Any:
        killer = threading.Timer(0.005, self._end_stopped)
        killer.start()
        try:
            return call()
        finally:
            killer.cancel()  # the call did not wait
            killer.join()

    def _open(self) -> list[Segment]:
        return [each for each in self.segments.values() if not each.sent]

    def _sent(self) -> list[Segment]:
        return [each for each in self.segments.values() if each.sent and each.result is None]

    def _results(self) -> list[Segment]:
        return [each for each in self.segments.values() if each.result is not None]

    def _claim(self, choose: Choose) -> Any:
        free = [index for index, name in enumerate(NAMES) if name not in self.segments]
        if not free:
            return None
        index = free[choose(len(free))]
        try:
            claim = self._waiting(lambda: self.pool.claim(NAMES[index], FRAMES[index], 4))
        except REFUSALS as error:
            self._check_refusal(error)
            return None
        claim.posteriors[:] = self.posteriors[index]
        self.n_claims += 1
        segment = Segment(claim, index, self.n_claims, self.pool.stats().restarts)
        self.segments[NAMES[index]] = segment
        return segment

    def _send(self, segment: Segment) -> None:
        segment.late = self.pool.stats().restarts != segment.restarts
        segment.sent = segment.claim.send()

    def _take(self, segment: Segment, timeout: Any = None) -> None:
        try:
            result = self._waiting(lambda: segment.sent.result(timeout))
        except REFUSALS as error:
            self._check_refusal(error)
            return
        except shmbridge.BridgeTimeoutError:
            assert timeout is not None
            return
        segment.result = result
        loss, error_signal = self.expected[segment.index]
        assert (result.name, result.loss) == (NAMES[segment.index], loss)
        np.testing.assert_array_equal(result.error_signal, error_signal)

    def _release(self, segment: Segment) -> None:
        np.testing.assert_array_equal(segment.result.error_signal, self.expected[segment.index][1])
        segment.result.release()
        del self.segments[NAMES[segment.index]]

    def _check_refusal(self, error: Exception) -> None:
        """Check that the pool had a reason to refuse: the user must first send or release something."""
        behind = re.match(r"segment '(.*)' cannot be answered before '(.*)', which", str(error))
        if behind is not None:
            waiting, older = (self.segments[name] for name in behind.groups())
            assert waiting.sent
            assert not older.sent
            assert older.order < waiting.order or waiting.late, error
        elif isinstance(error, BufferError):
            assert self._open() or self._results(), error
        else:
            assert "[behind-claim]" in str(error)
            assert self._open(), error

    def finish(self) -> None:
        """Send, receive and release all claims; check that only the test has ended children."""
        for segment in self._results():
            self._release(segment)
        for segment in self._open():
            self._send(segment)
        for segment in self._sent():
            self._take(segment)
            self._release(segment)
        self._end_stopped()
        stats = self.pool.stats()
        assert stats.failed <= self.n_left
        assert stats.restarts <= self.n_kills


STEPS = {
    "fill": 4,
    "claim_ahead": 4,
    "send": 3,
    "abort": 1,
    "result": 2,
    "result_in_no_time": 1,
    "release": 3,
    "batch": 1,
    "kill": 1,
    "stop": 3,
}


@pytest.mark.chance
def test_each_result_belongs_to_its_segment_in_any_order_and_with_any_kills(sprint_env: SprintEnv) -> None:
    sprint_env.segments = {name: ("a" if n < 9 else "ab a", n) for name, n in zip(NAMES, FRAMES)}
    sprint_env.write_corpus()
    posteriors = [sprint_env.posteriors([frames], seed)[:, 0] for seed, frames in enumerate(FRAMES)]
    with sprint_env.pool("loop", num_instances=2, ring_size=RING_SIZE, max_restarts=10**6) as pool:
        expected = []
        for name, matrix in zip(NAMES, posteriors):
            loss, error_signal = pool.get_batch_loss_and_error_signal(matrix[:, None], [len(matrix)], [name])
            expected.append((loss[0], error_signal[:, 0]))
        assert len({loss for loss, _ in expected}) == len(NAMES)

        model = Model(pool, posteriors, expected)

        @settings(
            max_examples=20,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],  # shrinking would take long, and deaths are random
            suppress_health_check=list(HealthCheck),
        )
        @given(st.randoms(use_true_random=True))
        def run(random: Any) -> None:
            for step in random.choices(list(STEPS), list(STEPS.values()), k=40):
                getattr(model, step)(random.randrange)
            model.finish()

        run()
