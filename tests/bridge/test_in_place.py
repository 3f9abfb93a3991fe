"""Segments in place: claim, fill, send, result, release."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.sprint_env import SprintEnv

# Sprint answers with loss 1.5 and twice the posteriors.
DOUBLER = """
init().run_control_loop(callback=callback)
"""


@pytest.fixture
def pool(sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    """One child that doubles the posteriors; its rings hold a little more than three claims of `claim`."""
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False, ring_size=1 << 16) as pool:
        yield pool


def waiter(sprint_env: SprintEnv, **more: Any) -> shmbridge.SprintInstancePool:
    options = sprint_env.sprint_file(
        "patient", {"folder": sprint_env.path}, use_python_segment_order=False, **more
    )
    return shmbridge.SprintInstancePool(**options)


def claim(
    pool: shmbridge.SprintInstancePool, name: str = "c/s1", value: float = 1.0, frames: int = 1200
) -> Any:
    """Return a filled claim of 19 kB."""
    claimed = pool.claim(name, frames, 4)
    claimed.posteriors[:] = value
    return claimed


def batch(pool: shmbridge.SprintInstancePool, name: str = "c/s1") -> Any:
    loss, error_signal = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), np.array([3]), [name])
    assert loss[0] == 1.5
    assert (error_signal == 2).all()


def go_on_until_the_ring_is_full(pool: shmbridge.SprintInstancePool) -> None:
    """Send segments until the ring is full up to the held array."""
    values = itertools.count()

    def go_on() -> None:
        for value in values:
            with claim(pool, value=value, frames=50).send().result() as result:
                assert (result.error_signal == 2 * value).all()

    with pytest.raises(BufferError, match="ring_size"):
        go_on()
    assert next(values) > 40


# --- claim to release


def test_claim_fill_send_result_release(pool: shmbridge.SprintInstancePool) -> None:
    claimed = pool.claim("c/s1", 3, 4)
    assert claimed.posteriors.shape == (3, 4)
    assert claimed.posteriors.dtype == np.float32
    assert claimed.posteriors.flags.c_contiguous
    claimed.posteriors[:] = np.arange(12).reshape(3, 4)
    sent = claimed.send()
    assert sent.name == "c/s1"
    result = sent.result()
    assert result.name == "c/s1"
    assert result.loss == 1.5
    assert not result.skipped
    np.testing.assert_array_equal(result.error_signal, 2.0 * np.arange(12).reshape(3, 4))
    assert sent.done()
    assert sent.result() is result
    result.release()
    result.release()
    with pytest.raises(shmbridge.UsageError, match="'c/s1' was released"):
        _ = result.error_signal
    assert pool.stats().segments == 1
    batch(pool)


@pytest.mark.parametrize("integer", [int, np.int32, np.int64, np.uint16])
def test_frames_and_labels_may_be_any_integers(pool: shmbridge.SprintInstancePool, integer: Any) -> None:
    with pool.claim("c/s1", integer(3), integer(4)) as claimed:
        assert claimed.posteriors.shape == (3, 4)


def test_an_in_place_segment_has_the_result_of_a_batch(sprint_env: SprintEnv) -> None:
    names = sprint_env.NAMES
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sent = []
        for b, (name, length) in enumerate(zip(names, lengths)):
            claimed = pool.claim(name, length, sprint_env.LABELS)
            claimed.posteriors[:] = posteriors[:length, b]
            sent.append(claimed.send())
        loss = np.empty(len(names), np.float32)
        error_signal = np.zeros(posteriors.shape, np.float32)
        for b, segment in enumerate(sent):
            with segment.result() as result:
                loss[b] = result.loss
                error_signal[: lengths[b], b] = result.error_signal
    sprint_env.compare(loss, error_signal, posteriors, lengths, names)


def test_the_error_signal_is_a_view_of_the_shared_memory(pool: shmbridge.SprintInstancePool) -> None:
    with claim(pool).send().result() as result:
        address = result.error_signal.__array_interface__["data"][0]
        assert not result.error_signal.flags.owndata
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if start <= address < end:
                assert "/memfd:shmbridge" in line
                return
    raise AssertionError("the error signal lies in no mapping")


def test_a_skipped_segment_has_an_infinite_loss_and_a_zero_error_signal_in_place(
    sprint_env: SprintEnv,
) -> None:
    with sprint_env.pool("iterate") as pool, pool.claim(sprint_env.SHORT, 2, sprint_env.LABELS) as claimed:
        claimed.posteriors[:] = -1
        result = claimed.send().result()
        assert result.skipped
        assert result.loss == np.inf
        assert result.error_signal.shape == (2, sprint_env.LABELS)
        assert not result.error_signal.any()
        assert pool.stats().skipped == 1


def test_an_unknown_segment_is_a_remote_error_of_that_claim_alone(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate") as pool:
        bad = pool.claim("kórpus/rec/nowhere", 3, sprint_env.LABELS)
        bad.posteriors[:] = -1
        good = pool.claim("kórpus/rec/one", 3, sprint_env.LABELS)
        good.posteriors[:] = -1
        sent_bad, sent_good = bad.send(), good.send()
        for _ in range(2):
            with pytest.raises(shmbridge.RemoteError, match="nowhere"):
                sent_bad.result()
        assert np.isfinite(sent_good.result().loss)
        sprint_env.check(pool, sprint_env.NAMES)


# --- views


def test_a_held_array_does_not_hide_an_error_in_the_with_block(pool: shmbridge.SprintInstancePool) -> None:
    held = []
    for number in range(10):  # more than fit into the ring
        result = claim(pool, value=number).send().result()
        held.append(result.error_signal)
        with pytest.raises(ZeroDivisionError), result:
            raise ZeroDivisionError
        assert (held[0] == 2 * number).all()
        with pytest.raises(shmbridge.UsageError, match="was released"):
            _ = result.error_signal
        held.clear()
    with claim(pool).send().result() as result:
        view = result.error_signal
        with pytest.raises(BufferError), result:
            pass
        del view


def test_an_error_signal_does_not_change_while_later_segments_are_answered(
    pool: shmbridge.SprintInstancePool,
) -> None:
    result = claim(pool, value=3).send().result()
    view = result.error_signal[10:20]
    with pytest.raises(BufferError, match="still views it"):
        result.release()
    go_on_until_the_ring_is_full(pool)
    assert (view == 6).all()
    del view
    result.release()
    batch(pool)


def test_an_error_signal_stays_valid_while_only_a_view_of_it_exists(
    pool: shmbridge.SprintInstancePool,
) -> None:
    view = claim(pool, value=3).send().result().error_signal[::7]
    gc.collect()
    go_on_until_the_ring_is_full(pool)
    assert (view == 6).all()
    del view
    batch(pool)


def test_an_error_signal_stays_valid_after_the_pool_was_closed(sprint_env: SprintEnv) -> None:
    with sprint_env.scripted_pool(DOUBLER, use_python_segment_order=False) as pool:
        result = claim(pool, value=3).send().result()
        view = result.error_signal
    del pool
    gc.collect()
    assert (view == 6).all()
    with pytest.raises(BufferError):
        result.release()
    del view
    result.release()


def test_an_error_signal_stays_valid_after_the_child_was_killed_and_restarted(
    sprint_env: SprintEnv, pool: shmbridge.SprintInstancePool
) -> None:
    view = claim(pool, value=3).send().result().error_signal
    (pid,) = sprint_env.sprint_pids()
    os.kill(pid, signal.SIGKILL)
    sprint_env.wait_gone([pid])
    assert (view == 6).all()
    with contextlib.suppress(shmbridge.PeerGoneError):
        batch(pool)  # an error only if the pool noticed the death after it had sent the segment
    batch(pool)
    assert sprint_env.sprint_pids() != [pid]
    assert (view == 6).all()


def test_posteriors_that_are_kept_after_send_do_not_change(pool: shmbridge.SprintInstancePool) -> None:
    claimed = claim(pool, value=3)
    kept = claimed.posteriors
    claimed.send().result()
    go_on_until_the_ring_is_full(pool)
    assert (kept == 3).all()
    with pytest.raises(shmbridge.UsageError, match="'c/s1' was already sent"):
        _ = claimed.posteriors


# --- order


def test_claims_may_be_sent_in_any_order(pool: shmbridge.SprintInstancePool) -> None:
    first, second, third = (claim(pool, f"c/s{i}", i) for i in (1, 2, 3))
    sent = {3: third.send(), 1: first.send(), 2: second.send()}
    for expected in (2, 3, 1):
        with sent[expected].result() as result:
            assert (result.error_signal == 2 * expected).all()


def test_waiting_behind_a_claim_that_was_not_sent_is_an_error_and_not_a_hang(
    pool: shmbridge.SprintInstancePool,
) -> None:
    first, second = claim(pool, "c/s1"), claim(pool, "c/s2", 2)
    sent = second.send()
    with pytest.raises(shmbridge.UsageError, match=r"'c/s2'.* 'c/s1'.*\[behind-claim\]"):
        sent.result()
    assert (first.send().result().error_signal == 2).all()
    assert (sent.result().error_signal == 4).all()


@pytest.mark.parametrize("how", ["abort", "context", "drop"])
def test_an_abandoned_claim_does_not_block_later_ones(pool: shmbridge.SprintInstancePool, how: str) -> None:
    first, second = claim(pool, "c/s1"), claim(pool, "c/s2", 2)
    sent = second.send()
    if how == "abort":
        first.abort()
        first.abort()
    elif how == "context":
        with first:
            pass
    else:
        del first
        gc.collect()
    with sent.result() as result:
        assert (result.error_signal == 4).all()
    batch(pool)
    if how != "drop":
        for call in (first.send, lambda: first.posteriors):
            with pytest.raises(shmbridge.UsageError, match="'c/s1' was already sent or aborted"):
                call()
    assert pool.stats().segments == 2


def test_a_batch_while_a_claim_is_open_is_an_error_and_the_claim_can_still_be_sent(
    pool: shmbridge.SprintInstancePool,
) -> None:
    claimed = claim(pool, "c/s2", 2)
    with pytest.raises(shmbridge.UsageError, match=r"'c/s2' .*\[behind-claim\]"):
        batch(pool)
    with pytest.raises(shmbridge.UsageError, match=r"'c/s2' .*\[behind-claim\]"):
        pool.get_automata_for_batch(["c/s1"])
    with claimed.send().result() as result:
        assert (result.error_signal == 4).all()
    batch(pool)


def test_a_batch_may_run_while_results_are_outstanding(pool: shmbridge.SprintInstancePool) -> None:
    claimed = claim(pool, "c/s2", 2).send()
    batch(pool)
    with claimed.result() as result:
        assert (result.error_signal == 4).all()


def test_a_claim_is_sent_once(pool: shmbridge.SprintInstancePool) -> None:
    claimed = claim(pool)
    sent = claimed.send()
    with pytest.raises(shmbridge.UsageError, match="already sent"):
        claimed.send()
    claimed.abort()
    assert sent.result().loss == 1.5


# --- a full ring


def test_holding_results_until_the_ring_is_full_is_a_buffer_error_and_not_a_hang(
    pool: shmbridge.SprintInstancePool,
) -> None:
    held = [claim(pool, value=i).send().result() for i in range(3)]
    claimed = claim(pool, value=9).send()
    for _ in range(2):
        with pytest.raises(BufferError, match="ring_size"):
            claimed.result()
    assert [float(result.error_signal.max()) for result in held] == [0, 2, 4]
    held[0].release()
    with claimed.result() as result:
        assert (result.error_signal == 18).all()
    del held
    batch(pool)


def test_unclaimed_results_make_room_for_the_requested_one(pool: shmbridge.SprintInstancePool) -> None:
    sent = [claim(pool, value=i).send() for i in range(5)]
    results = {i: sent[i].result() for i in (4, 1, 3)}
    sent[0] = None  # abandon it
    results[2] = sent[2].result()
    for i, result in results.items():
        assert not result.skipped
        assert result.error_signal.shape == (1200, 4)
        assert (result.error_signal == 2 * i).all()
        result.release()
        with pytest.raises(shmbridge.UsageError, match="was released"):
            _ = result.error_signal
    batch(pool)


def test_a_batch_continues_if_unclaimed_results_fill_the_ring(pool: shmbridge.SprintInstancePool) -> None:
    sent = [claim(pool, value=i).send() for i in range(3)]
    large = np.ones((1200, 1, 4), np.float32)
    _, error_signal = pool.get_batch_loss_and_error_signal(large, np.array([1200]), ["c/s1"])
    assert (error_signal == 2).all()
    assert [float(claimed.result().error_signal[0, 0]) for claimed in sent] == [0, 2, 4]


def test_claiming_continues_if_unclaimed_results_fill_the_ring(pool: shmbridge.SprintInstancePool) -> None:
    sent = [claim(pool, value=i).send() for i in range(12)]  # four times as many as fit into a ring
    for i, claimed in enumerate(sent):
        with claimed.result() as result:
            assert (result.error_signal == 2 * i).all()


def test_a_batch_while_held_results_fill_the_ring_is_a_buffer_error(
    pool: shmbridge.SprintInstancePool,
) -> None:
    held = [claim(pool, value=i).send().result() for i in range(3)]
    large = np.ones((1200, 1, 4), np.float32)
    with pytest.raises(BufferError, match="ring_size"):
        pool.get_batch_loss_and_error_signal(large, np.array([1200]), ["c/s1"])
    held.clear()
    loss, error_signal = pool.get_batch_loss_and_error_signal(large, np.array([1200]), ["c/s1"])
    assert loss[0] == 1.5
    assert (error_signal == 2).all()


def test_claiming_more_than_fits_into_the_ring_is_a_buffer_error_and_not_a_hang(
    pool: shmbridge.SprintInstancePool,
) -> None:
    claims = [claim(pool, f"c/{i}", i) for i in range(3)]
    with pytest.raises(BufferError, match="ring_size"):
        claim(pool)
    claims.pop().abort()
    sent = [claimed.send() for claimed in claims]
    assert [float(each.result().error_signal[0, 0]) for each in sent] == [0, 2]
    sent.clear()
    with claim(pool, "c/again", 5).send().result() as result:
        assert (result.error_signal == 10).all()


def test_claiming_waits_until_sprint_releases_records(pool: shmbridge.SprintInstancePool) -> None:
    sent = [claim(pool, value=i).send() for i in range(2)]
    for i in range(2, 40):
        sent.append(claim(pool, value=i).send())
        with sent.pop(0).result() as result:
            assert (result.error_signal == 2 * (i - 2)).all()


# --- errors


def test_send_raises_with_the_position_of_a_nan_and_the_claim_stays_open(
    pool: shmbridge.SprintInstancePool,
) -> None:
    claimed = claim(pool, "c/s1", frames=5)
    claimed.posteriors[3, 2] = np.nan
    with pytest.raises(shmbridge.BatchError, match="'c/s1' are NaN at time 3, label 2"):
        claimed.send()
    claimed.posteriors[3, 2] = 1
    with claimed.send().result() as result:
        assert (result.error_signal == 2).all()


def test_the_check_for_nan_can_be_disabled(pool: shmbridge.SprintInstancePool) -> None:
    claimed = claim(pool, frames=5)
    claimed.posteriors[3, 2] = np.nan
    with claimed.send(check_nan=False).result() as result:
        assert np.isnan(result.error_signal[3, 2])


def test_after_a_timeout_the_result_is_still_available(sprint_env: SprintEnv) -> None:
    with waiter(sprint_env) as pool:
        claimed = claim(pool, "c/slow").send()
        for timeout in (0.01, 0, 0.02):
            with pytest.raises(shmbridge.BridgeTimeoutError, match=f"within {timeout} seconds") as caught:
                claimed.result(timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        (sprint_env.path / "slow").touch()
        with claimed.result(timeout=50) as result:
            assert (result.error_signal == 2).all()


def test_results_are_available_in_any_order_and_children_do_not_wait_for_each_other(
    sprint_env: SprintEnv,
) -> None:
    with waiter(sprint_env, num_instances=2) as pool:
        slow, fast = claim(pool, "c/slow", 1).send(), claim(pool, "c/fast", 2).send()
        (sprint_env.path / "fast").touch()
        with fast.result() as result:
            assert (result.error_signal == 4).all()
        (sprint_env.path / "slow").touch()
        with slow.result() as result:
            assert (result.error_signal == 2).all()


def test_the_death_of_the_child_fails_all_sent_segments_and_the_next_claim_works(
    sprint_env: SprintEnv,
) -> None:
    with waiter(sprint_env) as pool:
        sent = [claim(pool, f"c/s{i}").send() for i in range(3)]
        (pid,) = sprint_env.sprint_pids()
        os.kill(pid, signal.SIGKILL)
        for claimed in sent:
            with pytest.raises(shmbridge.PeerGoneError) as caught:
                claimed.result()
            assert caught.value.signal_name == "SIGKILL"
            assert caught.value.segments == ("c/s0", "c/s1", "c/s2")
        (sprint_env.path / "s4").touch()
        with claim(pool, "c/s4").send().result() as result:
            assert (result.error_signal == 2).all()


def test_a_claim_on_a_dead_child_fails_at_send_and_does_not_block_others(sprint_env: SprintEnv) -> None:
    with waiter(sprint_env) as pool:
        sent = claim(pool, "c/s1").send()
        stale = claim(pool, "c/s2")
        os.kill(sprint_env.sprint_pids()[0], signal.SIGKILL)
        with pytest.raises(shmbridge.PeerGoneError):
            sent.result()
        (sprint_env.path / "s4").touch()
        with claim(pool, "c/s4").send().result() as result:
            assert (result.error_signal == 2).all()
        stale.posteriors[:] = 0  # still mapped
        with pytest.raises(shmbridge.PeerGoneError, match=r"'c/s2'.*SIGKILL") as caught:
            stale.send()
        assert "[claim-lost]" in str(caught.value)
        assert (caught.value.signal_name, caught.value.exit_code) == ("SIGKILL", None)
        stale.abort()
        batch(pool, "c/s4")


def test_a_result_that_was_unanswered_when_the_pool_was_closed_is_a_closed_error(
    sprint_env: SprintEnv,
) -> None:
    with waiter(sprint_env, exit_timeout=0.2) as pool:
        (sprint_env.path / "s1").touch()
        answered = claim(pool, "c/s1", frames=3).send()
        answered.result()
        unanswered = claim(pool, "c/never", frames=3).send()
    for _ in range(2):
        with pytest.raises(shmbridge.ClosedError, match=r"\[closed\]"):
            unanswered.result()
    assert answered.result().loss == 1.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("c/s1", 0, 4), "0 frames x 4 labels"),
        (("c/s1", 3, 0), "3 frames x 0 labels"),
        (("c/s1", -1, 4), "-1 frames"),
        (("", 3, 4), "full segment name"),
        ((7, 3, 4), "the segment name is 7"),
        ((b"\xff", 3, 4), "must be UTF-8"),
        (("c/\ud800", 3, 4), "must be UTF-8"),
    ],
)
def test_an_invalid_claim_is_refused(
    pool: shmbridge.SprintInstancePool, arguments: Any, expected: str
) -> None:
    with pytest.raises(shmbridge.BatchError, match=expected):
        pool.claim(*arguments)
    batch(pool)


# --- the memory of a closed pool


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum("memfd:shmbridge" in line or "/dev/shm/" in line for line in maps)


def test_a_closed_pool_keeps_only_the_memory_that_held_arrays_need(sprint_env: SprintEnv) -> None:
    before = mappings()
    with sprint_env.scripted_pool(
        "init().run_control_loop(callback=callback)", num_instances=2, unnormalized_posteriors="allow"
    ) as pool:
        kept = claim(pool).send().result().error_signal
        batch(pool)
    assert pool.closed
    assert mappings() == before + 2  # the child whose array is kept, and the trainer's doorbell
    assert (kept == kept[0, 0]).all()
    del kept
    assert mappings() == before + 1
    del pool
    assert mappings() == before
