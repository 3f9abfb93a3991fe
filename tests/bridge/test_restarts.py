"""Sprint ends or hangs during a batch; a new child answers its unanswered segments."""

import ctypes
import logging
import os
import signal
import threading
import time

import numpy as np
import pytest

import shmbridge
from shmbridge.memory import POSTERIORS_LINES
from support.internals import before_each_memory_reservation, before_each_sleep, children, kill_child, once

NAMES = [f"c/s{i}" for i in range(8)]


class Deadly:
    def __init__(self, sprint_env):
        self.sprint_env = sprint_env
        self.folder = sprint_env.path / "deadly"
        self.folder.mkdir()

    def pool(self, **more):
        given = {"allow_zero_error_signal": True, **more}  # some tests send zeros
        options = self.sprint_env.sprint_file("deadly", {"folder": self.folder}, **given)
        return shmbridge.SprintInstancePool(**options)

    def plan(self, name, what, times=1):
        (self.folder / name.replace("/", "-")).write_text(f"{what} {times}")


@pytest.fixture
def deadly(sprint_env):
    return Deadly(sprint_env)


def batch(names=NAMES, frames=5, labels=3):
    posteriors = -np.random.default_rng(0).random((frames, len(names), labels)).astype(np.float32)
    return posteriors, np.full(len(names), frames, np.int32), names


def check(answer, posteriors):
    loss, error_signal = answer
    np.testing.assert_allclose(loss, posteriors.sum(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_array_equal(error_signal, 2 * posteriors)


@pytest.mark.parametrize("num_instances", [1, 2])
@pytest.mark.parametrize("what", ["kill", "abort", "exit"])
def test_a_segment_that_ends_sprint_once_is_answered_by_a_new_child(deadly, what, num_instances):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=1, num_instances=num_instances) as pool:
        deadly.plan("c/s3", what)
        deadly.plan("c/s5", what)
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        assert pool.stats().restarts == 2
        assert (pool.stats().segments, pool.stats().failed) == (len(names), 0)
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        assert pool.stats().restarts == 2


def test_a_segment_that_always_ends_sprint_raises_with_its_name_and_the_others_are_answered(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=2, num_instances=2) as pool:
        deadly.plan("c/s3", "abort", times=100)
        with pytest.raises(shmbridge.PeerGoneError, match="SIGABRT") as caught:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert caught.value.segments[0] == "c/s3"
        assert "at c/s3 it will abort" in "\n".join(caught.value.last_output)
        assert pool.stats().restarts == 3
        partial = caught.value.partial
        assert partial is not None
        loss, error_signal = partial
        others = [index for index, name in enumerate(names) if name != "c/s3"]
        assert np.isnan(loss[3])
        check((loss[others], error_signal[:, others]), posteriors[:, others])
        assert (pool.stats().segments, pool.stats().failed) == (7, 1)
        check(
            pool.get_batch_loss_and_error_signal(posteriors[:, :2], lengths[:2], names[:2]), posteriors[:, :2]
        )


def test_a_segment_that_always_ends_sprint_can_be_skipped(deadly, caplog):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=1, skip_fatal_segments=True) as pool:
        deadly.plan("c/s3", "kill", times=100)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert loss[3] == np.inf
        assert not error_signal[:, 3].any()
        others = [0, 1, 2, 4, 5, 6, 7]
        check((loss[others], error_signal[:, others]), posteriors[:, others])
    assert "'c/s3' is skipped" in caplog.text


def test_without_restarts_the_answers_of_the_other_child_are_kept(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(num_instances=2) as pool:
        deadly.plan("c/s0", "kill")
        with pytest.raises(shmbridge.PeerGoneError, match="SIGKILL") as caught:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        partial = caught.value.partial
        assert partial is not None
        loss, error_signal = partial
        answered = np.flatnonzero(~np.isnan(loss))
        # The killed child had at most two segments; the other child answered the rest.
        assert len(answered) >= len(names) - 2
        check((loss[answered], error_signal[:, answered]), posteriors[:, answered])


def test_each_segment_that_failed_has_its_error(deadly, caplog):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=1) as pool:
        deadly.plan("c/s2", "raise")
        deadly.plan("c/s4", "abort", times=100)
        nan = posteriors.copy()
        nan[1, 6, 2] = np.nan
        with pytest.raises(shmbridge.ShmbridgeError) as caught:
            pool.get_batch_loss_and_error_signal(nan, lengths, names)
        error = caught.value
        expected = {
            "c/s2": (shmbridge.RemoteError, "for a change"),
            "c/s4": (shmbridge.PeerGoneError, "SIGABRT"),
            "c/s6": (shmbridge.BatchError, "time 1, label 2"),
        }
        assert set(error.failed) == set(expected)
        for name, (kind, text) in expected.items():
            assert type(error.failed[name]) is kind
            assert text in str(error.failed[name])
        logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        first, *others = error.failed
        assert str(error) == str(error.failed[first])
        assert [str(error.failed[name]) for name in others] == logged
        assert type(error.partial) is shmbridge.BatchResult
        assert not error.partial.skipped.any()
        right = [index for index, name in enumerate(names) if name not in expected]
        loss, error_signal = error.partial
        assert np.isnan(loss[[2, 4, 6]]).all()
        check((loss[right], error_signal[:, right]), posteriors[:, right])
        result = pool.get_batch_loss_and_error_signal(posteriors[:, :2], lengths[:2], names[:2])
        check(result, posteriors[:, :2])


def no_memory():
    raise shmbridge.ResourceError("no shared memory is left")


def test_the_other_child_answers_all_if_a_dead_one_cannot_be_replaced(deadly, caplog):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=1, num_instances=2) as pool:
        deadly.plan("c/s0", "kill")
        with before_each_memory_reservation(no_memory):
            for _ in range(2):
                check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
            assert sorted(child.state for child in pool.stats().children) == ["ended", "ready"]
            in_place = pool.claim("c/s0", 4, 3)
            in_place.posteriors[...] = -1
            assert in_place.send().result().loss == -12.0
        assert (pool.stats().segments, pool.stats().failed) == (2 * len(names) + 1, 0)
        assert pool.stats().restarts == 0
        assert "SIGKILL" in caplog.text
        assert "no shared memory is left" in caplog.text
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        assert [child.state for child in pool.stats().children] == ["ready", "ready"]
        assert pool.stats().restarts == 1


def test_in_place_segments_go_to_the_other_child_if_a_dead_one_cannot_be_replaced(deadly):
    with deadly.pool(max_restarts=1, num_instances=2) as pool, before_each_memory_reservation(no_memory):
        deadly.plan("c/s0", "kill")
        claims = [pool.claim(name, 4, 3) for name in NAMES]
        for value, claim in enumerate(claims):
            claim.posteriors[...] = -value
        for value, sent in enumerate([claim.send() for claim in claims]):
            assert sent.result().loss == -12.0 * value


def test_if_no_child_is_left_and_none_can_be_started_the_batch_fails_with_the_death(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=1, num_instances=2) as pool:
        deadly.plan("c/s0", "kill", times=2)
        with before_each_memory_reservation(no_memory):
            with pytest.raises(shmbridge.PeerGoneError, match="SIGKILL") as caught:
                pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
            assert "c/s0" in caught.value.failed
            for error in caught.value.failed.values():
                assert isinstance(error, shmbridge.PeerGoneError)
                assert error.signal_name == "SIGKILL"
            answered = [index for index, name in enumerate(names) if name not in caught.value.failed]
            partial = caught.value.partial
            assert partial is not None
            loss, error_signal = partial
            check((loss[answered], error_signal[:, answered]), posteriors[:, answered])
            with pytest.raises(shmbridge.ResourceError, match="no shared memory is left"):
                pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)


def test_a_python_exception_in_sprint_is_not_retried(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=3) as pool:
        deadly.plan("c/s3", "raise")
        with pytest.raises(shmbridge.RemoteError, match="for a change") as caught:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        partial = caught.value.partial
        assert partial is not None
        loss, _ = partial
        assert np.isnan(loss).tolist() == [index == 3 for index in range(8)]
        assert pool.stats().restarts == 0


def test_a_hanging_sprint_is_terminated_and_the_error_contains_its_stack(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(segment_timeout=1.0) as pool:
        deadly.plan("c/s3", "hang")
        with pytest.raises(shmbridge.SegmentTimeoutError, match="segment_timeout") as caught:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.segments[0] == "c/s3"
        output = "\n".join(caught.value.last_output)
        assert "in callback" in output  # the stack
        assert "in run_control_loop" in output
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)


@pytest.mark.parametrize("what", ["hang", "stop"])
def test_a_segment_that_hangs_sprint_once_is_answered_by_a_new_child(deadly, what):
    posteriors, lengths, names = batch()
    with deadly.pool(segment_timeout=1.0, max_restarts=1, num_instances=2) as pool:
        deadly.plan("c/s3", what)
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        assert pool.stats().restarts == 1


def test_the_segment_timeout_excludes_the_time_between_segments(deadly):
    posteriors, lengths, names = batch()
    with deadly.pool(segment_timeout=0.5) as pool:
        for _ in range(2):
            check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
            time.sleep(0.7)  # the trainer is busy elsewhere
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)


def claim_filled(pool, name, frames=4):
    claim = pool.claim(name, frames, 3)
    claim.posteriors[...] = -1
    return claim


@pytest.mark.parametrize("end", ["send", "abort"])
def test_the_segment_timeout_excludes_the_time_in_which_an_earlier_claim_is_open(deadly, end):
    with deadly.pool(segment_timeout=0.2) as pool:
        first, second = claim_filled(pool, "c/s0"), claim_filled(pool, "c/s1")
        sent = second.send()
        assert not sent.done()
        time.sleep(0.3)  # Sprint cannot receive the second segment
        assert [sent.done() for _ in range(3)] == [False] * 3
        getattr(first, end)()
        assert sent.result().loss == -12.0
        assert pool.stats().children[0].state == "ready"


def test_the_segment_timeout_excludes_the_time_in_which_held_results_leave_no_room(deadly):
    frames = 1500  # three of them fit into a ring
    with deadly.pool(segment_timeout=0.2, ring_size=1) as pool:
        held = [claim_filled(pool, name, frames).send().result() for name in NAMES[:3]]
        sent = claim_filled(pool, NAMES[3], frames).send()
        with pytest.raises(BufferError, match="ring-full"):
            sent.result()
        time.sleep(0.3)
        assert not sent.done()
        for result in held:
            result.release()
        assert sent.result().loss == -4500.0
        assert pool.stats().children[0].state == "ready"


def test_in_place_segments_are_also_resent(deadly):
    with deadly.pool(max_restarts=1) as pool:
        deadly.plan("c/s1", "kill")
        claims = [pool.claim(name, 4, 3) for name in NAMES[:3]]
        for value, claim in enumerate(claims):
            claim.posteriors[...] = -value
        for value, sent in enumerate([claim.send() for claim in claims]):
            with sent.result() as result:
                assert result.loss == -12.0 * value
                assert (result.error_signal == -2 * value).all()
        assert pool.stats().restarts == 1


def test_a_claim_made_before_sprint_ended_can_be_sent_to_the_new_child(deadly):
    with deadly.pool(max_restarts=1) as pool:
        claim = pool.claim("c/s0", 4, 3)
        claim.posteriors[...] = -1
        pid = pool.stats().children[0].pid
        os.kill(pid, signal.SIGKILL)
        with claim.send().result() as result:
            assert result.loss == -12.0


def test_a_segment_claimed_after_a_death_stays_behind_the_resent_ones(deadly, sprint_env):
    """The trainer fills the next segment before it receives the result of the previous one."""
    deadly.plan(NAMES[0], "kill")
    with deadly.pool(max_restarts=1) as pool:
        pids = sprint_env.sprint_pids()
        earlier = []
        for value, name in enumerate(NAMES[:4]):
            claim = pool.claim(name, 4, 3)
            claim.posteriors[...] = -value
            earlier.append(claim.send())
        sprint_env.wait_gone(pids)
        later = pool.claim(NAMES[4], 4, 3)
        for value, sent in enumerate(earlier):
            assert sent.result().loss == -12.0 * value
        later.posteriors[...] = -9
        assert later.send().result().loss == -12.0 * 9


@pytest.mark.parametrize("in_batch", [False, True])
def test_posteriors_kept_for_a_retry_are_released_when_they_are_answered(deadly, sprint_env, in_batch):
    with deadly.pool(max_restarts=1, ring_size=1 << 16) as pool:

        def send(name, frames):
            claim = pool.claim(name, frames, 3)
            claim.posteriors[...] = -1
            array = claim.posteriors
            return claim.send(), array

        # Each record fills a third of the ring; the held one keeps the ring from restarting at its beginning.
        first, held = send(NAMES[0], 1600)
        first.result().release()
        second, also_held = send(NAMES[1], 1600)
        second.result().release()
        del held
        for name in NAMES[2:5]:
            deadly.plan(name, "raise")  # a short answer
        claims = [send(name, 800)[0] for name in NAMES[2:4]]
        del also_held
        claims.append(send(NAMES[4], 1400)[0])  # behind the wrap
        # Sprint has answered them; the pool has not read the answers yet.
        lines = pool.memories[0].address + POSTERIORS_LINES  # the tail, and the head on a line of its own
        tail, head = (ctypes.c_uint64.from_address(lines + offset) for offset in (0, 128))
        sprint_env.wait_until(lambda: head.value == tail.value > 0, "Sprint has answered")
        if in_batch:
            posteriors, lengths, names = batch(NAMES[5:6], frames=3300)
            check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        else:
            large = pool.claim(NAMES[5], 3300, 3)
            large.posteriors[...] = 0
            with large.send().result() as result:
                assert result.loss == 0
        for claim in claims:
            with pytest.raises(shmbridge.RemoteError, match="for a change"):
                claim.result()


def test_an_in_place_segment_that_always_ends_sprint_can_be_skipped(deadly):
    with deadly.pool(max_restarts=1, skip_fatal_segments=True) as pool:
        deadly.plan("c/s0", "kill", times=9)
        claim = pool.claim("c/s0", 4, 3)
        claim.posteriors[...] = -1
        with claim.send().result() as result:
            assert result.skipped
            assert not result.error_signal.any()


def test_a_sprint_that_cannot_restart_is_not_retried_without_limit(deadly, sprint_env):
    posteriors, lengths, names = batch()
    with deadly.pool(max_restarts=100) as pool:
        deadly.plan("c/s0", "kill")
        (script,) = sprint_env.path.glob("sprint_*.py")
        script.unlink()
        for call in range(2):
            with pytest.raises(shmbridge.PeerGoneError, match="exited with code 2"):
                pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
            assert pool.stats().restarts == call + 1


class Hanging(logging.Handler):
    """A logging handler that calls back once Sprint prints that it will hang."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def emit(self, record):
        if "it will hang" in record.getMessage():
            self._callback()

    def __enter__(self):
        logging.getLogger("shmbridge.sprint").addHandler(self)

    def __exit__(self, *_):
        logging.getLogger("shmbridge.sprint").removeHandler(self)


def test_a_segment_of_an_interrupted_call_is_not_resent(deadly):
    posteriors, lengths, names = batch()
    deadly.plan("c/s0", "hang")
    out = np.zeros_like(posteriors)
    with deadly.pool(max_restarts=1) as pool:
        with Hanging(lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
            pool.get_batch_loss_and_error_signal(posteriors, lengths - 1, names, out=out)
        out.fill(7)
        (pid,) = deadly.sprint_env.sprint_pids()
        os.kill(pid, signal.SIGKILL)
        names = [f"{name} of the next call" for name in names]
        check(pool.get_batch_loss_and_error_signal(posteriors, lengths, names), posteriors)
        assert (out == 7).all()
        assert (pool.stats().segments, pool.stats().restarts) == (8, 1)


def test_a_result_raises_if_sprint_cannot_restart(deadly, sprint_env):
    with deadly.pool(max_restarts=1) as pool:
        claim = pool.claim("c/s0", 4, 3)
        claim.posteriors[...] = -1
        (script,) = sprint_env.path.glob("sprint_*.py")
        script.unlink()
        (pid,) = sprint_env.sprint_pids()
        os.kill(pid, signal.SIGKILL)
        sent = claim.send()
        with pytest.raises(shmbridge.PeerGoneError, match="exited with code 2"):
            sent.result()


def test_a_call_in_another_thread_ends_when_the_pool_is_closed(deadly):
    posteriors, lengths, names = batch()
    deadly.plan("c/s0", "hang")
    pool = deadly.pool(exit_timeout=0.5)
    errors = []
    at_work = threading.Event()

    def call():
        try:
            pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
        except shmbridge.ClosedError as error:
            errors.append(error)

    with Hanging(at_work.set):
        thread = threading.Thread(target=call)
        thread.start()
        at_work.wait()
        pool.close()
        thread.join()
    assert [str(error) for error in errors] == ["the pool was closed [closed]"]


def test_unanswered_segments_are_resent_before_a_claim_that_waits_for_room(deadly, sprint_env):
    """Otherwise a trainer that claims the next segment before it receives a result would wait for itself."""
    with deadly.pool(max_restarts=1, ring_size=1 << 16) as pool:
        (pid,) = sprint_env.sprint_pids()
        os.kill(pid, signal.SIGSTOP)
        earlier = []
        for value, name in enumerate(NAMES[:3]):  # more do not fit
            claim = pool.claim(name, 1600, 3)
            claim.posteriors[...] = -value
            earlier.append(claim.send())
        with before_each_sleep(pool, once(lambda: os.kill(pid, signal.SIGKILL))):
            later = pool.claim(NAMES[3], 1600, 3)
        for value, sent in enumerate(earlier):
            with sent.result() as result:
                assert result.loss == -4800.0 * value
        later.posteriors[...] = -9
        assert later.send().result().loss == -4800.0 * 9
        assert pool.stats().restarts == 1


# Only the first two Sprints start.
TWO_STARTS = """
import pathlib
folder = pathlib.Path({folder!r})
(folder / str(os.getpid())).touch()
if len(list(folder.iterdir())) > 2:
    os._exit(9)
init().run_control_loop(callback=callback)
"""


def test_the_other_child_answers_all_if_each_replacement_ends_before_its_hello(sprint_env, caplog):
    folder = sprint_env.path / "starts"
    folder.mkdir()
    sprint = TWO_STARTS.format(folder=str(folder))
    with sprint_env.scripted_pool(sprint, num_instances=2, max_restarts=1) as pool:
        kill_child(pool)
        for _ in range(3):
            loss, error_signal = pool.get_batch_loss_and_error_signal(*batch())
            assert (loss == 1.5).all()
            np.testing.assert_array_equal(error_signal, 2 * batch()[0])
            children(pool)[0].wait_for_exit()
        assert "exited with code 9" in caplog.text
        kill_child(pool, 1)
        with pytest.raises(shmbridge.PeerGoneError, match="exited with code 9"):
            pool.get_batch_loss_and_error_signal(*batch())
