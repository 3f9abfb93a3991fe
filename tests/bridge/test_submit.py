"""Batches in flight: submit, its handle, and what happens to both when something ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.internals import kill_child
from support.sprint_env import SprintEnv

QUICK = "init().run_control_loop(callback=callback)"
PATIENCE = 60.0  # seconds
NAMES = ["c/s1", "c/s2", "c/s3"]


def batch(value: float = -1.0, names: list[str] = NAMES) -> tuple[Any, list[int], list[str]]:
    return np.full((3, len(names), 4), value, np.float32), [3] * len(names), names


@contextmanager
def stopped(pool: shmbridge.SprintInstancePool, index: int = 0) -> Iterator[None]:
    """Stop a child for the duration of the block."""
    pid = pool.stats().children[index].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def batch_threads() -> int:
    return sum(thread.name == "shmbridge batches" for thread in threading.enumerate())


def await_in_flight(pool: shmbridge.SprintInstancePool, number: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while sum(child.in_flight for child in pool.stats().children) < number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- results


@pytest.mark.parametrize("num_instances", [1, 2])
def test_results_are_bit_for_bit_those_of_the_synchronous_call(
    sprint_env: SprintEnv, num_instances: int
) -> None:
    with sprint_env.pool("loop", num_instances=num_instances) as pool:
        batches = []
        for start in range(4):
            names = sprint_env.NAMES[start : start + 3]
            lengths = sprint_env.frames(names)
            batches.append((sprint_env.posteriors(lengths), lengths, names))
        expected = [pool.get_batch_loss_and_error_signal(*each) for each in batches]
        handles = [pool.submit(*each) for each in batches]
        for handle, (loss, error_signal) in zip(handles, expected):
            result = handle.result(PATIENCE)
            np.testing.assert_array_equal(result.loss, loss)
            np.testing.assert_array_equal(result.error_signal, error_signal)
            assert handle.result() is result
            assert (handle.done(), handle.running(), handle.cancelled(), handle.sent) == (
                True,
                False,
                False,
                True,
            )


def test_an_empty_batch_is_answered(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        result = pool.submit(np.empty((3, 0, 4), np.float32), [], []).result(PATIENCE)
        assert result.loss.shape == (0,)


def test_a_segment_is_reported_while_another_one_is_computed(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK, num_instances=2) as pool, stopped(pool):
        handle = pool.submit(*batch(names=NAMES[:2]))
        segments = handle.completed()
        first = next(segments)
        assert not handle.done()
        with stopped(pool, 1):  # nothing else can be answered now
            assert first.loss == 1.5
            assert first.error_signal is not None
            assert first.error_signal.shape == (3, 4)
        with pytest.raises(shmbridge.UsageError, match="called before"):
            handle.completed()
        os.kill(pool.stats().children[0].pid, signal.SIGCONT)
        second = next(segments)
        assert {first.segment_index, second.segment_index} == {0, 1}
        assert next(segments, None) is None
        assert np.shares_memory(handle.result().error_signal, first.error_signal)


def test_the_next_batch_fills_children_that_the_first_one_leaves_idle(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK, num_instances=2) as pool, stopped(pool):
        first = pool.submit(*batch(names=NAMES[:1]))
        await_in_flight(pool, 1)
        second = pool.submit(*batch(names=NAMES[:1]))
        assert second.result(PATIENCE).loss.tolist() == [1.5]
        assert not first.done()


# --- limits


def test_submit_blocks_while_too_many_batches_are_in_flight(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK, max_batches_in_flight=1) as pool:
        with stopped(pool):
            first = pool.submit(*batch())
            with pytest.raises(BufferError, match=r"1 batches are in flight.*max_batches_in_flight"):
                pool.submit(*batch(), block=False)
            submitted: list[shmbridge.BatchHandle] = []
            thread = threading.Thread(target=lambda: submitted.append(pool.submit(*batch())))
            thread.start()
            thread.join(0.2)
            assert not submitted
        thread.join(PATIENCE)
        assert first.done()
        assert submitted[0].result(PATIENCE).loss.tolist() == [1.5] * 3


def test_other_calls_take_their_turn_among_batches_without_end(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK, num_instances=2) as pool:
        is_over = threading.Event()

        def submit() -> None:
            while not is_over.is_set():
                pool.submit(*batch())

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            for _ in range(20):
                loss, _ = pool.get_batch_loss_and_error_signal(*batch())
                assert loss.tolist() == [1.5] * 3
                claim = pool.claim("c/s4", 3, 4)
                claim.posteriors[:] = -1
                assert claim.send(check_nan=False).result().loss == 1.5
        finally:
            is_over.set()
            thread.join(PATIENCE)


def test_the_thread_exists_only_while_a_batch_is_in_flight(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        pool.get_batch_loss_and_error_signal(*batch())
        assert batch_threads() == 0
        with stopped(pool):
            handle = pool.submit(*batch())
            await_in_flight(pool, 1)
            assert batch_threads() == 1
        handle.result(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while batch_threads():
            assert time.monotonic() < deadline
            time.sleep(0.001)


# --- the source


def test_the_posteriors_may_change_once_they_are_sent(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool, stopped(pool):
        posteriors, lengths, names = batch(names=NAMES[:2])
        handle = pool.submit(posteriors, lengths, names)
        assert handle.wait_until_sent(PATIENCE)
        assert not handle.done()


def test_with_restarts_the_posteriors_are_needed_until_the_end(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK, max_restarts=1) as pool:
        with stopped(pool):
            handle = pool.submit(*batch(names=NAMES[:2]))
            await_in_flight(pool, 2)
            assert not handle.wait_until_sent(0.1)
        handle.result(PATIENCE)
        assert handle.sent


def test_a_copy_may_be_changed_at_once(sprint_env: SprintEnv) -> None:
    names = sprint_env.NAMES[:3]
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("loop") as pool, stopped(pool):
        changed = posteriors.copy()
        handle = pool.submit(changed, lengths, names, copy=True)
        changed[:] = np.nan
        os.kill(pool.stats().children[0].pid, signal.SIGCONT)
        loss, error_signal = handle.result(PATIENCE)
        sprint_env.compare(loss, error_signal, posteriors, lengths, names)


# --- a future


def test_a_batch_of_which_nothing_was_sent_can_be_cancelled(sprint_env: SprintEnv) -> None:
    called: list[Any] = []
    with sprint_env.scripted_pool(QUICK) as pool:
        with stopped(pool):
            first = pool.submit(*batch())
            await_in_flight(pool, 2)
            second = pool.submit(*batch())
            second.add_done_callback(called.append)
            assert second.cancel()
            assert not first.cancel()
            assert second.cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                second.result(PATIENCE)
            with pytest.raises(concurrent.futures.CancelledError):
                list(second.completed())
            assert second.cancelled()
        assert first.result(PATIENCE).loss.tolist() == [1.5] * 3
        assert pool.submit(*batch()).result(PATIENCE).loss.tolist() == [1.5] * 3
        assert called == [second]
        assert pool.stats().segments == 6
        assert pool.stats().failed == 0


def test_a_handle_is_a_future_for_asyncio(sprint_env: SprintEnv) -> None:
    async def run(pool: shmbridge.SprintInstancePool) -> list[Any]:
        handles = [pool.submit(*batch()) for _ in range(2)]
        return list(await asyncio.gather(*map(asyncio.wrap_future, handles)))

    with sprint_env.scripted_pool(QUICK) as pool:
        results = asyncio.run(asyncio.wait_for(run(pool), PATIENCE))
        assert [result.loss.tolist() for result in results] == [[1.5] * 3] * 2


def test_a_handle_can_be_waited_for_among_other_futures(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        handles = [pool.submit(*batch()) for _ in range(4)]
        done = list(concurrent.futures.as_completed(handles, PATIENCE))
        assert set(done) == set(handles)


def test_a_callback_may_call_the_pool_but_not_wait_for_a_batch(sprint_env: SprintEnv) -> None:
    losses: list[float] = []
    errors: list[Exception] = []
    called = threading.Event()
    with sprint_env.scripted_pool(QUICK) as pool:

        def callback(_handle: object) -> None:
            try:
                losses.extend(pool.get_batch_loss_and_error_signal(*batch()).loss)
                next_handle = pool.submit(*batch(), block=True)
                next_handle.result()
            except shmbridge.UsageError as error:
                errors.append(error)
            called.set()

        with stopped(pool):
            pool.submit(*batch()).add_done_callback(callback)
        assert called.wait(PATIENCE)
        assert losses == [1.5] * 3
        assert "was waited for in the thread that answers it" in str(errors[0])


def test_a_result_that_takes_too_long_is_a_timeout_and_comes_later(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        with stopped(pool):
            handle = pool.submit(*batch())
            with pytest.raises(shmbridge.BridgeTimeoutError, match=r"within 0\.1 seconds"):
                handle.result(0.1)
        assert handle.result(PATIENCE).loss.tolist() == [1.5] * 3


def test_ctrl_c_while_a_result_is_waited_for_does_not_harm_the_batch(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        with stopped(pool):
            handle = pool.submit(*batch())
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
            with pytest.raises(KeyboardInterrupt):
                handle.result(PATIENCE)
        assert handle.result(PATIENCE).loss.tolist() == [1.5] * 3


# --- errors


def test_errors_of_segments_are_those_of_the_synchronous_call(sprint_env: SprintEnv) -> None:
    names = [sprint_env.NAMES[0], "no/such/segment"]
    lengths = [sprint_env.frames(names[:1])[0]] * 2
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("loop") as pool:
        handle = pool.submit(posteriors, lengths, names)
        with pytest.raises(shmbridge.RemoteError, match="no/such/segment") as raised:
            handle.result(PATIENCE)
        assert list(raised.value.failed) == ["no/such/segment"]
        assert raised.value.partial is not None
        assert np.isfinite(raised.value.partial[0][0])
        assert isinstance(handle.exception(), shmbridge.RemoteError)
        completed = pool.submit(posteriors, lengths, names).completed()
        assert next(completed).segment_index == 0
        with pytest.raises(shmbridge.RemoteError):
            next(completed)


def test_invalid_arguments_are_refused_at_once_and_a_nan_by_the_handle(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        posteriors, lengths, names = batch()
        with pytest.raises(shmbridge.BatchError):
            pool.submit(posteriors, lengths[:2], names)
        posteriors[1, 1, 1] = np.nan
        with pytest.raises(shmbridge.BatchError, match="NaN at time 1, label 1"):
            pool.submit(posteriors, lengths, names).result(PATIENCE)
        huge = np.broadcast_to(np.float32(-1), (1 << 20, 1, 4))
        with pytest.raises(shmbridge.SegmentTooLargeError):
            pool.submit(huge, [1 << 20], names[:1]).result(PATIENCE)
        assert pool.submit(*batch()).result(PATIENCE).loss.tolist() == [1.5] * 3


def test_a_death_fails_the_batches_in_flight_and_the_next_one_is_answered(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        os.kill(pool.stats().children[0].pid, signal.SIGSTOP)
        handles = [pool.submit(*batch()) for _ in range(2)]
        await_in_flight(pool, 2)
        kill_child(pool)
        for handle in handles:
            with pytest.raises(shmbridge.PeerGoneError):
                handle.result(PATIENCE)
        assert pool.submit(*batch()).result(PATIENCE).loss.tolist() == [1.5] * 3


@pytest.mark.parametrize("num_instances", [1, 2])
def test_with_restarts_a_death_is_not_noticed(sprint_env: SprintEnv, num_instances: int) -> None:
    with sprint_env.scripted_pool(QUICK, num_instances=num_instances, max_restarts=1) as pool:
        os.kill(pool.stats().children[0].pid, signal.SIGSTOP)
        handles = [pool.submit(*batch()) for _ in range(2)]
        await_in_flight(pool, 1)
        kill_child(pool)
        assert [handle.result(PATIENCE).loss.tolist() for handle in handles] == [[1.5] * 3] * 2
        assert pool.stats().segments == 6


def test_a_batch_behind_an_open_claim_is_a_usage_error(sprint_env: SprintEnv) -> None:
    with (
        sprint_env.scripted_pool(QUICK) as pool,
        pool.claim("c/s4", 3, 4),
        pytest.raises(shmbridge.UsageError, match="'c/s4' is claimed and not sent"),
    ):
        pool.submit(*batch()).result(PATIENCE)


# --- ends


def test_close_fails_the_batches_in_flight(sprint_env: SprintEnv) -> None:
    pool = sprint_env.scripted_pool(QUICK)
    with stopped(pool):
        handles = [pool.submit(*batch()) for _ in range(2)]
        await_in_flight(pool, 1)
        closing = threading.Thread(target=pool.close)
        closing.start()
        for handle in handles:
            with pytest.raises(shmbridge.ClosedError):
                handle.result(PATIENCE)
    closing.join(PATIENCE)
    assert batch_threads() == 0
    with pytest.raises(shmbridge.ClosedError):
        pool.submit(*batch())


def test_a_pool_that_nothing_refers_to_answers_its_batches_and_ends(sprint_env: SprintEnv) -> None:
    pool = sprint_env.scripted_pool(QUICK)
    pid = pool.stats().children[0].pid
    with stopped(pool):
        handle = pool.submit(*batch())
        del pool
        gc.collect()
    assert handle.result(PATIENCE).loss.tolist() == [1.5] * 3
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_in_a_fork_the_handle_raises_and_the_parent_has_the_result(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(QUICK) as pool:
        with stopped(pool):
            handle = pool.submit(*batch())
            await_in_flight(pool, 1)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    handle.result(PATIENCE)
                except shmbridge.UsageError:
                    try:
                        pool.submit(*batch())
                    except shmbridge.UsageError:
                        code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert handle.result(PATIENCE).loss.tolist() == [1.5] * 3
