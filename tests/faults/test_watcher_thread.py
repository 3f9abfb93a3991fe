"""A pool is closed, collected or used in its own watcher's thread: in a logging handler."""

from __future__ import annotations

import os

import numpy as np
import pytest

import shmbridge
from support.internals import children, fail_in_watcher, kill_child

QUICK = "init().run_control_loop(callback=callback)"

# Prints a line as soon as a file exists.
SPRINT = """
import time
def tell():
    while not os.path.exists({mark!r}):
        time.sleep(0.005)
    print("now", flush=True)
threading.Thread(target=tell).start()
init().run_control_loop(callback=callback)
"""


@pytest.mark.parametrize("act", ["collect", "close", "close in a call"])
def test_a_pool_ends_in_its_own_watcher_thread(sprint_env, act):
    mark = str(sprint_env.path / "mark")
    options = sprint_env.scripted(SPRINT.format(mark=mark))
    with sprint_env.trainer_file("trainer_with_handler", options, act=act, mark=mark) as trainer:
        assert sprint_env.said(trainer) == "acted"
        assert sprint_env.said(trainer) == "ended"
        assert trainer.wait() == 0
        assert sprint_env.sprint_pids() == []


@pytest.mark.parametrize("when", ["the pool is idle", "another thread closes the pool"])
def test_a_handler_that_would_wait_for_sprint_gets_an_error(sprint_env, when):
    mark = str(sprint_env.path / "mark")
    closing = when == "another thread closes the pool"
    sprint = "init().run_control_loop(callback=callback)\nprint('now', flush=True)"
    options = sprint_env.scripted(sprint if closing else SPRINT.format(mark=mark))
    mark = "" if closing else mark
    with sprint_env.trainer_file("trainer_with_handler", options, act="use", mark=mark) as trainer:
        assert "[watcher-thread]" in sprint_env.said(trainer)
        assert sprint_env.said(trainer) == "acted"
        if not closing:
            trainer.stdin.write("\n")
            trainer.stdin.flush()
        assert trainer.wait() == 0


# --- failures in the thread


def one_batch(pool):
    return pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])


def test_an_exit_is_noticed_even_if_its_status_cannot_be_read(sprint_env):
    with sprint_env.scripted_pool(QUICK) as pool:
        with fail_in_watcher("exit", MemoryError("no memory is left")):
            (child,) = children(pool)
            kill_child(pool)
            assert child.death().exit_code is child.death().signal_name is None
            os.waitpid(child.pid, 0)
        loss, _ = one_batch(pool)
        assert loss.tolist() == [1.5]


def test_a_message_that_cannot_be_read_ends_sprint(sprint_env):
    message = r"could not be read: MemoryError.*\[bad-message\]"
    failing = fail_in_watcher("messages", MemoryError("no memory is left"))
    with failing, pytest.raises(shmbridge.ProtocolError, match=message):
        sprint_env.scripted_pool(QUICK)


def test_output_that_cannot_be_read_does_not_end_sprint(sprint_env):
    with fail_in_watcher("output", MemoryError("no memory is left")):
        with sprint_env.scripted_pool(QUICK + "\nSEEN['ended'] = True") as pool:
            one_batch(pool)
        assert sprint_env.seen()["ended"]
