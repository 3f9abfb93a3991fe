"""Ctrl-C at each point of the trainer's code at which CPython handles signals, in turn.

Afterwards the next call is right, nothing is left behind, and no healthy Sprint was ended.
`make test` checks a share of the points, `make soak` all of them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

import shmbridge
from support.internals import fork_lock_is_free, kill_child, restart_dead_children, unfinished
from support.interruptions import interrupt, record
from support.leftovers import Watch, marked_processes
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
        keeps_children: whether no Sprint ends.
    """

    stride = 1
    keeps_children = True
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

    def sprints_without_owner(self, pool):
        return sorted(set(self.sprint_env.sprint_pids()) - {child.pid for child in pool.stats().children})

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


class SubmittedBatches(Scenario):
    """Two batches in flight. A batch whose handle was lost is answered, or was never sent."""

    stride = 4

    def run(self, pool):
        posteriors = -self.random.random((5, 2, LABELS)).astype(np.float32)
        handles = [pool.submit(posteriors, [5] * 2, ["c/s1", "c/s2"]) for _ in range(2)]
        self.held += handles
        assert sum(segment.loss for segment in handles[0].completed()) == 3
        for handle in handles:
            loss, error_signal = handle.result()
            assert (loss == 1.5).all()
            np.testing.assert_array_equal(error_signal, 2 * posteriors)

    def check(self, pool):
        for handle in self.held:
            assert (handle.result().loss == 1.5).all()
        self.held.clear()
        super().check(pool)


class Automata(Scenario):
    def start(self):
        pool = self.sprint_env.pool("loop")
        self.expected = pool.get_automata_for_batch(self.sprint_env.NAMES[:2])
        return pool

    def run(self, pool):
        for part, expected in zip(pool.get_automata_for_batch(self.sprint_env.NAMES[:2]), self.expected):
            np.testing.assert_array_equal(part, expected)

    check = run


# Sends the features of three segments, and checks their scores.
SCORER = f"""
scorer = init(sprint_unit="PythonFeatureScorer")
scorer.init(input_dim=2, output_dim={LABELS})
for segment in range(3):
    scorer.add_feature(feature=np.full(2, segment, np.float32), time=0)
    scorer.compute(num_frames=1)
    assert scorer.get_scores(time=0).tolist() == [segment + 0.5] * {LABELS}
    scorer.reset(num_frames=1)
"""


class Scores(Scenario):
    """Each call ends the Sprint, and the next one starts another."""

    keeps_children = False
    stride = 12

    def start(self):
        return self.sprint_env.scripted_pool(SCORER, use_python_segment_order=False)

    def prepare(self, pool):
        restart_dead_children(pool)

    def run(self, pool):
        pool.serve_scores(lambda features: np.full((1, LABELS), features[0, 0] + 0.5))

    check = run


class ADeath(Scenario):
    """A Sprint is dead when the call begins."""

    keeps_children = False
    stride = 20

    def prepare(self, pool):
        kill_child(pool)

    def run(self, pool):
        self.batch(pool, 2)


class ADeathWithSegments(InPlace):
    """A Sprint dies with two segments, which are sent again."""

    options: ClassVar[dict] = {"max_restarts": 1}
    keeps_children = False
    stride = 20

    def prepare(self, pool):
        claims = [pool.claim(name, 3, LABELS) for name in ("c/s1", "c/s2")]
        for claim in claims:
            claim.posteriors[:] = 1
        kill_child(pool)
        self.held = [claim.send() for claim in claims]

    def run(self, pool):
        self.held[1].result()


SCENARIOS = [
    ABatch,
    ABatchForTwo,
    ABatchWithRestarts,
    InPlace,
    InPlaceForTwo,
    InPlaceWithRestarts,
    SubmittedBatches,
    Automata,
    Scores,
    ADeath,
    ADeathWithSegments,
]


class Start(Scenario):
    """The start of a pool, of which nothing may be left."""

    stride = 12
    pool = None

    def begin(self):
        """Do what comes before the call."""

    def call(self):
        self.pool = self.start()

    def end(self):
        if self.pool is not None:
            self.pool.close()
            self.pool = None
        gc.collect(0)

    def left_behind(self, watch):
        return watch.left_behind() + marked_processes(self.sprint_env.mark)


class Close(Start):
    """The end of a pool, of which nothing may be left."""

    def begin(self):
        self.pool = self.start()

    def call(self):
        self.pool.close()


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
    left = wait_until(lambda: unfinished(pool))
    assert left == [], left
    assert fork_lock_is_free()
    if scenario.keeps_children:
        assert [child.pid for child in pool.stats().children] == pids, "a healthy Sprint was ended"
    left = wait_until(lambda: scenario.sprints_without_owner(pool))
    assert left == [], f"Sprints without an owner: {left}"
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
            for pid in scenario.sprints_without_owner(pool):
                os.kill(pid, signal.SIGKILL)
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


def check_lifetime(kind, sprint_env, stride):
    scenario = kind(sprint_env)
    scenario.begin()
    points = record(scenario.call, occurrences=2)[::stride]
    scenario.end()
    watch = Watch()
    for point in points:
        signal.setitimer(signal.ITIMER_REAL, SAFETY_NET, SAFETY_NET)
        scenario.begin()
        raised = interrupt(scenario.call, point)
        scenario.end()
        left = wait_until(lambda: scenario.left_behind(watch))
        assert left == [], f"{point}: {left}"
        assert raised is not False, f"{point}: KeyboardInterrupt was lost"
        assert fork_lock_is_free()
    print(f"{len(points)} points")


@pytest.mark.parametrize("kind", [Start, Close])
def test_ctrl_c_at_the_start_or_end_of_a_pool_leaves_nothing_behind(sprint_env, kind):
    check_lifetime(kind, sprint_env, kind.stride)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [Start, Close])
def test_ctrl_c_at_any_point_of_the_start_or_end_of_a_pool_leaves_nothing_behind(sprint_env, kind):
    check_lifetime(kind, sprint_env, 1)
