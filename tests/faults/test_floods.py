"""A Sprint that floods a busy trainer with control messages."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import shmbridge

FLOOD = 64 << 20  # bytes of filler
FILLER = 500_000


def flooding_pool(sprint_env, mark, kind, count=FLOOD // FILLER, filler=FILLER, exit_code=""):
    settings = {"mark": mark, "kind": kind, "count": count, "filler": filler, "exit_code": exit_code}
    return shmbridge.SprintInstancePool(**sprint_env.sprint_file("flood", settings))


def send_one(pool):
    claim = pool.claim("c/s1", 3, 4)
    claim.posteriors[:] = 1
    return claim.send()


def refusal(pool):
    """Return the error for a number of labels that the model never has."""
    with pytest.raises(shmbridge.BatchError) as caught:
        pool.claim("c/s2", 3, 1)
    return str(caught.value)


def growth_until(sprint_env, mark):
    """Return the growth of Python's memory in bytes until the mark exists; the trainer is idle meanwhile."""
    before = tracemalloc.get_traced_memory()[0]
    sprint_env.wait_until(mark.exists, "the flood is over")
    return tracemalloc.get_traced_memory()[0] - before


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("kind", ["dimension", "no_room"])
def test_of_messages_that_replace_each_other_only_the_newest_is_kept(sprint_env, kind):
    mark = sprint_env.path / "mark"
    with flooding_pool(sprint_env, mark, kind) as pool:
        sent = send_one(pool)
        assert growth_until(sprint_env, mark) < FLOOD // 4
        with sent.result() as result:
            assert result.loss == 1.5
        if kind == "dimension":
            newest = FLOOD // FILLER - 1 + 4
            # The mark does not show that the trainer has read the last message.
            sprint_env.wait_until(lambda: refusal(pool).count(f"has {newest} "), "the newest message is read")
            with pytest.raises(shmbridge.BatchError, match=f"Sprint's model has {newest}"):
                pool.claim("c/s2", 3, newest - 1)


@pytest.mark.usefixtures("traced")
def test_of_several_exceptions_the_first_is_raised(sprint_env):
    mark = sprint_env.path / "mark"
    with flooding_pool(sprint_env, mark, "exception", exit_code="4") as pool:
        sent = send_one(pool)
        assert growth_until(sprint_env, mark) < FLOOD // 4
        with pytest.raises(shmbridge.PeerGoneError, match=r"raised KeyError: number 0\b") as caught:
            sent.result()
        assert "number 1" not in str(caught.value)
        assert caught.value.exit_code == 4


def test_a_sprint_that_violates_the_protocol_is_terminated_while_the_trainer_is_idle(sprint_env):
    """Sprint never ends by itself: it writes until the trainer terminates it."""
    mark = sprint_env.path / "mark"
    with flooding_pool(sprint_env, mark, "hello", count=1 << 40, filler=100) as pool:
        pids = sprint_env.sprint_pids()
        sent = send_one(pool)
        sprint_env.wait_gone(pids)
        with pytest.raises(shmbridge.ProtocolError, match="a second hello"):
            sent.result()
        mark.touch()
        posteriors = np.ones((3, 1, 4), np.float32)
        loss, _ = pool.get_batch_loss_and_error_signal(posteriors, [3], ["c/s1"])
        assert loss[0] == 1.5
