"""Ctrl-C at each point of the trainer's code at which CPython handles signals, in turn.

Afterwards the next call is right, nothing is left behind, and no healthy Sprint was ended.
`make test` checks a share of the points, `make soak` all of them.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

import shmbridge
from support.internals import fork_lock_is_free, unfinished
from support.interruptions import interrupt, record
from support.sprint_env import SAFETY_NET

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="CPython 3.9 handles signals between any two instructions"
)

PATIENCE = SAFETY_NET / 3
QUICK = "init().run_control_loop(callback=callback)"
LABELS = 4


def answer_in_another_thread(call):
    """Return what the call returns, in another thread: a lock that this thread still holds stops it."""
    answers = []

    def run():
        try:
            answers.append(("returned", call()))
        except BaseException as error:
            answers.append(("raised", error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert answers, "the call hangs"
    what, answer = answers[0]
    if what == "raised":
        raise answer
    return answer


def wait_until(done):
    """Return what `done` last returned: [] unless the time ran out."""
    deadline = time.monotonic() + PATIENCE
    pause = 1e-5
    while (left := done()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return left


class Scenario:
    """A call that is interrupted, and what must be right afterwards.

    Attributes:
        stride: `make test` checks each stride-th point.
    """

    stride = 1
    num_instances = 1
    options: ClassVar[dict] = {}

    def __init__(self, sprint_env):
        self.sprint_env = sprint_env
        self.held = []  # what the user has: claims, sent segments
        self.random = np.random.default_rng(0)

    def start(self):
        return self.sprint_env.scripted_pool(
            QUICK, **{"num_instances": self.num_instances, "ring_size": 1 << 16, **self.options}
        )

    def prepare(self, pool):
        """Bring the pool into the state in which `run` begins."""

    def run(self, pool):
        """Make the call that is interrupted."""

    def check(self, pool):
        """Check what is left of the call, and that the next one is right."""
        self.batch(pool, 3)

    def batch(self, pool, size):
        names = [f"c/s{number}" for number in range(size)]
        posteriors = -self.random.random((5, size, LABELS)).astype(np.float32)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, [5] * size, names)
        assert (loss == 1.5).all()
        np.testing.assert_array_equal(error_signal, 2 * posteriors)


class ABatch(Scenario):
    def run(self, pool):
        self.batch(pool, 4)


class ABatchForTwo(ABatch):
    num_instances = 2


class ABatchWithRestarts(ABatch):
    options: ClassVar[dict] = {"max_restarts": 1}


class InPlace(Scenario):
    def run(self, pool):
        first = pool.claim("c/s1", 3, LABELS)
        self.held.append(first)
        second = pool.claim("c/s2", 3, LABELS)
        self.held.append(second)
        first.posteriors[:], second.posteriors[:] = 1, 2
        sent = [claim.send() for claim in (first, second)]
        self.held += sent
        with sent[1].result() as result:
            assert (result.error_signal == 4).all()
        sent[0].done()
        with sent[0].result() as result:
            assert (result.error_signal == 2).all()

    def check(self, pool):
        for sent in self.held:
            if isinstance(sent, shmbridge.SentSegment):
                with contextlib.suppress(shmbridge.UsageError):  # it has no answer; claim it again
                    assert sent.result().loss == 1.5
                assert sent.done()
        sent = None
        self.held.clear()
        gc.collect(0)
        super().check(pool)


class InPlaceForTwo(InPlace):
    num_instances = 2


class InPlaceWithRestarts(InPlace):
    options: ClassVar[dict] = {"max_restarts": 1}


class Automata(Scenario):
    def start(self):
        pool = self.sprint_env.pool("loop")
        self.expected = pool.get_automata_for_batch(self.sprint_env.NAMES[:2])
        return pool

    def run(self, pool):
        for part, expected in zip(pool.get_automata_for_batch(self.sprint_env.NAMES[:2]), self.expected):
            np.testing.assert_array_equal(part, expected)

    check = run


SCENARIOS = [
    ABatch,
    ABatchForTwo,
    ABatchWithRestarts,
    InPlace,
    InPlaceForTwo,
    InPlaceWithRestarts,
    Automata,
]


def points_of(scenario, pool):
    """Return the points that the scenario passes, in any of several runs: they differ in their waits."""
    points = {}
    for _ in range(3):
        scenario.prepare(pool)
        points.update(dict.fromkeys(record(lambda: scenario.run(pool), occurrences=2)))
        scenario.check(pool)
    return list(points)


def check_point(scenario, pool, point):
    scenario.prepare(pool)
    pids = [child.pid for child in pool.stats().children]
    raised = interrupt(lambda: scenario.run(pool), point)
    assert raised is not False, "KeyboardInterrupt was lost"
    answer_in_another_thread(lambda: scenario.check(pool))
    assert wait_until(lambda: unfinished(pool)) == []
    assert fork_lock_is_free()
    assert [child.pid for child in pool.stats().children] == pids, "a healthy Sprint was ended"
    return raised is not None


def check_points(scenario, stride):
    pool = scenario.start()
    reached = 0
    failures = []
    points = points_of(scenario, pool)[::stride]
    for point in points:
        signal.setitimer(signal.ITIMER_REAL, SAFETY_NET, SAFETY_NET)  # each point has the time of a test
        try:
            reached += check_point(scenario, pool, point)
        except Exception as error:
            failures.append(f"{point}: {type(error).__name__}: {error}")
            threading.Thread(target=pool.close, daemon=True).start()
            pool = scenario.start()
            points_of(scenario, pool)
    pool.close()
    print(f"{len(points)} points, {reached} of them reached")
    assert not failures, "\n".join(failures)
    assert reached > 0.5 * len(points)


@pytest.mark.parametrize("kind", SCENARIOS)
def test_after_ctrl_c_the_next_call_is_right(sprint_env, kind):
    check_points(kind(sprint_env), kind.stride)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [kind for kind in SCENARIOS if kind.stride > 1])
def test_after_ctrl_c_at_any_point_the_next_call_is_right(sprint_env, kind):
    check_points(kind(sprint_env), 1)
