"""A Sprint that floods a busy trainer with control messages."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import shmbridge

# Sends the messages during a segment, creates the mark, and then runs `then`.
SPRINT = """
from shmbridge import protocol
control = init()

def flooding(command, **arguments):
    if command == "calculate_criterion" and not os.path.exists({mark!r}):
        for number in range({count}):
            control.link.send({kind!r}, filler="x" * {filler}, **{fields})
        open({mark!r}, "w").close()
        {then}
    return callback(command, **arguments)

control.run_control_loop(callback=flooding)
"""
FLOOD = 64 << 20  # bytes of filler
FILLER = 500_000


def sprint(mark, kind, fields, then="pass", count=FLOOD // FILLER, filler=FILLER):
    return SPRINT.format(mark=str(mark), kind=kind, fields=fields, then=then, count=count, filler=filler)


def send_one(pool):
    claim = pool.claim("c/s1", 3, 4)
    claim.posteriors[:] = 1
    return claim.send()


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
@pytest.mark.parametrize(
    ("kind", "fields"),
    [("dimension", "dict(labels=number + 4)"), ("no_room", "dict(sequence=1, released=number)")],
)
def test_of_messages_that_replace_each_other_only_the_newest_is_kept(sprint_env, kind, fields):
    mark = sprint_env.path / "mark"
    with sprint_env.scripted_pool(sprint(mark, kind, fields)) as pool:
        sent = send_one(pool)
        assert growth_until(sprint_env, mark) < FLOOD // 4
        with sent.result() as result:
            assert result.loss == 1.5
        if kind == "dimension":
            newest = FLOOD // FILLER - 1 + 4
            with pytest.raises(shmbridge.BatchError, match=f"Sprint's model has {newest}"):
                pool.claim("c/s2", 3, newest - 1)


@pytest.mark.usefixtures("traced")
def test_of_several_exceptions_the_first_is_raised(sprint_env):
    mark = sprint_env.path / "mark"
    fields = 'dict(exception_type="KeyError", message=f"number {number}", traceback="")'
    with sprint_env.scripted_pool(sprint(mark, "exception", fields, then="os._exit(4)")) as pool:
        sent = send_one(pool)
        assert growth_until(sprint_env, mark) < FLOOD // 4
        with pytest.raises(shmbridge.PeerGoneError, match=r"raised KeyError: number 0\b") as caught:
            sent.result()
        assert "number 1" not in str(caught.value)
        assert caught.value.exit_code == 4


def test_a_sprint_that_violates_the_protocol_is_terminated_while_the_trainer_is_idle(sprint_env):
    """Sprint never ends by itself: it writes until the trainer terminates it."""
    mark = sprint_env.path / "mark"
    fields = "dict(protocol=protocol.PROTOCOL_VERSION, abi=1)"
    with sprint_env.scripted_pool(sprint(mark, "hello", fields, count=1 << 40, filler=100)) as pool:
        pids = sprint_env.sprint_pids()
        sent = send_one(pool)
        sprint_env.wait_gone(pids)
        with pytest.raises(shmbridge.ProtocolError, match="a second hello"):
            sent.result()
        mark.touch()
        posteriors = np.ones((3, 1, 4), np.float32)
        loss, _ = pool.get_batch_loss_and_error_signal(posteriors, [3], ["c/s1"])
        assert loss[0] == 1.5
