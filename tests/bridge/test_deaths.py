"""Sprint dies at every stage, in every way: unanswered segments fail, or a new child answers them."""

import collections

import numpy as np
import pytest

import shmbridge

# As in tests/sprints/mortal.py.
STAGES = [
    "before its hello",
    "after its hello",
    "waiting",
    "reading a record",
    "in the criterion",
    "half-way through the error signal",
    "between commit and doorbell",
]
DEATHS = ["SIGKILL", "SIGSEGV", "SIGABRT", "exit code 7"]
NAMES = [f"c/s{index}" for index in range(5)]


class Mortal:
    def __init__(self, sprint_env, stage, death):
        self.sprint_env = sprint_env
        self.stage = stage
        self.death = death
        self.mark = sprint_env.path / "mark"
        self.log = sprint_env.path / "log"
        self.log.touch()
        self.posteriors = -np.random.default_rng(0).random((6, len(NAMES), 4)).astype(np.float32)
        self.lengths = np.full(len(NAMES), 6, np.int32)

    def pool(self, **more):
        settings = {"stage": self.stage, "death": self.death, "mark": self.mark, "log": self.log}
        return shmbridge.SprintInstancePool(**self.sprint_env.sprint_file("mortal", settings, **more))

    def plan(self, times):
        self.mark.write_text(f"{'start' if 'hello' in self.stage else 'c/s2'} {times}")

    def run(self, pool):
        return pool.get_batch_loss_and_error_signal(self.posteriors, self.lengths, NAMES)

    def check(self, answer, indices=None):
        loss, error_signal = answer
        indices = list(range(len(NAMES)) if indices is None else indices)
        np.testing.assert_allclose(loss[indices], self.posteriors.sum(axis=(0, 2))[indices], rtol=1e-5)
        np.testing.assert_array_equal(error_signal[:, indices], 2 * self.posteriors[:, indices])

    def check_error(self, error):
        if self.death == "exit code 7":
            assert (error.exit_code, error.signal_name) == (7, None)
            assert "exited with code 7" in str(error)
        else:
            assert (error.exit_code, error.signal_name) == (None, self.death)
            assert f"was ended by {self.death}" in str(error)
        assert error.last_output[-1] == "its last words"


@pytest.fixture(params=DEATHS)
def death(request):
    return request.param


IN_FLIGHT = [stage for stage in STAGES if "hello" not in stage and stage != "waiting"]


@pytest.mark.parametrize("stage", IN_FLIGHT)
def test_without_restarts_the_error_is_complete_and_the_next_batch_is_answered(sprint_env, stage, death):
    mortal = Mortal(sprint_env, stage, death)
    mortal.plan(1)
    with mortal.pool() as pool:
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            mortal.run(pool)
        mortal.check_error(caught.value)
        partial = caught.value.partial
        assert partial is not None
        loss, error_signal = partial
        answered = np.flatnonzero(~np.isnan(loss))
        mortal.check((loss, error_signal), answered)
        # What was committed before the death has been answered, whether or not a doorbell rang.
        committed = 3 if stage == "between commit and doorbell" else 2
        assert answered.tolist() == list(range(committed))
        assert caught.value.segments[0] == NAMES[committed]
        mortal.check(mortal.run(pool))


@pytest.mark.parametrize("num_instances", [1, 2])
@pytest.mark.parametrize("stage", IN_FLIGHT)
def test_with_restarts_each_segment_is_answered_exactly_once(sprint_env, stage, num_instances):
    mortal = Mortal(sprint_env, stage, "SIGKILL")
    with mortal.pool(max_restarts=2, num_instances=num_instances) as pool:
        mortal.plan(1 if stage == "between commit and doorbell" else 2)
        mortal.check(mortal.run(pool))
        assert (pool.stats().segments, pool.stats().failed) == (len(NAMES), 0)
        if stage != "between commit and doorbell":  # the last answer may come before the death is noticed
            assert pool.stats().restarts == 2
    times = collections.Counter(mortal.log.read_text().split())
    # Sprint calculates a segment again only if its answer was lost.
    lost = {"half-way through the error signal": 3}.get(stage, 1)
    assert times == {**dict.fromkeys(NAMES, 1), "c/s2": lost}


def test_the_death_of_an_idle_sprint_fails_no_segment(sprint_env, death):
    mortal = Mortal(sprint_env, "waiting", death)
    with mortal.pool(
        max_restarts=1
    ) as pool:  # 1, because it may be noticed only when the next batch is under way
        (pid,) = sprint_env.sprint_pids()
        mortal.plan(1)
        mortal.check(mortal.run(pool))
        sprint_env.wait_gone([pid])
        mortal.check(mortal.run(pool))
        assert (pool.stats().segments, pool.stats().failed, pool.stats().restarts) == (10, 0, 1)


def test_a_death_before_the_hello_is_an_error_of_the_constructor(sprint_env, death):
    mortal = Mortal(sprint_env, "before its hello", death)
    mortal.plan(1)
    with pytest.raises(shmbridge.PeerGoneError) as caught:
        mortal.pool()
    mortal.check_error(caught.value)
    assert caught.value.segments == ()
    with mortal.pool() as pool:
        mortal.check(mortal.run(pool))


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_death_right_after_the_hello_is_noticed_by_the_first_batch_at_the_latest(
    sprint_env, death, max_restarts
):
    mortal = Mortal(sprint_env, "after its hello", death)
    mortal.plan(1)
    try:
        pool = mortal.pool(max_restarts=max_restarts)
    except shmbridge.PeerGoneError as error:  # it was dead before its hello was read
        mortal.check_error(error)
        return
    with pool:
        try:
            mortal.check(mortal.run(pool))
        except shmbridge.PeerGoneError as error:
            assert max_restarts == 0
            mortal.check_error(error)
            mortal.check(mortal.run(pool))
