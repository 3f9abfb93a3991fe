"""A trainer that forks and ends itself at a stage of a pool's life.

Settings: `stage` and `end` are keys of STAGES and ENDS; `wait_for` is a file that Sprint creates, or empty.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

import shmbridge
from support import internals
from support.trainer import OPTIONS, SETTINGS, say

POSTERIORS, LENGTHS, NAMES = -np.ones((50, 2, 7), np.float32), [50, 40], ["c/s1", "c/s2"]
PIDS: list[int] = []  # of all Sprints
ENDS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "exit": lambda: os._exit(3),
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"]),  # noqa: S606
}


def wait_for_sprint() -> None:
    """Wait until Sprint has created the file of the settings."""
    while SETTINGS["wait_for"] and not os.path.exists(SETTINGS["wait_for"]):
        time.sleep(0.005)


def last_moment() -> None:
    """Leave a fork that lives until its standard input ends, report, and end."""
    wait_for_sprint()
    fork = os.fork()
    if fork == 0:
        sys.stdin.read()
        os._exit(0)
    say([fork, PIDS])
    ENDS[SETTINGS["end"]]()


def run_pool(while_waiting: Optional[Callable[[], object]] = None) -> None:
    """Start the pool, run a batch, and close. Call back when the pool is about to wait for Sprint."""
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:

        def call_back() -> None:
            if while_waiting is not None and pool.stats().children[0].in_flight:
                while_waiting()

        with internals.before_each_sleep(pool, call_back):
            pool.get_batch_loss_and_error_signal(POSTERIORS, np.array(LENGTHS), NAMES)


def interrupt() -> None:
    """Raise KeyboardInterrupt as soon as Sprint is at work."""
    wait_for_sprint()
    raise KeyboardInterrupt


def starting() -> None:
    """End while the children start."""
    with internals.in_place_of_start_wait(last_moment):
        run_pool()


def waiting() -> None:
    """End while the pool waits for Sprint."""
    run_pool(while_waiting=last_moment)


def copying() -> None:
    """End in the middle of copying posteriors."""

    def copy_half(target: Any, source: Any, _two_threads: bool) -> None:
        target[: len(target) // 2] = source[: len(target) // 2]
        last_moment()

    pool = shmbridge.SprintInstancePool(**OPTIONS)
    pool.run_batch(POSTERIORS, LENGTHS, NAMES, None, copy_in=copy_half, copy_out=copy_half)


def claim_open() -> None:
    """End with a claim that was not sent."""
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    claim = pool.claim("c/s1", 4, 3)
    claim.posteriors[:2] = -1
    last_moment()


def result_held() -> None:
    """End with an array that views a result."""
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    claim = pool.claim("c/s1", 4, 3)
    claim.posteriors[:] = -1
    _held = claim.send().result().error_signal
    last_moment()


def closing() -> None:
    """End while the pool waits for its children to exit."""
    with internals.before_each_exit_wait(last_moment):
        run_pool()


def closing_after_interrupt() -> None:
    """End while the pool closes after Ctrl-C in a batch, which Sprint still computes."""
    with internals.before_each_exit_wait(last_moment):
        run_pool(while_waiting=interrupt)


STAGES = {
    "starting": starting,
    "waiting": waiting,
    "copying a batch": copying,
    "in-place claim open": claim_open,
    "result held": result_held,
    "closing": closing,
    "closing behind Ctrl-C": closing_after_interrupt,
}

with internals.after_each_spawn(PIDS.append):
    STAGES[SETTINGS["stage"]]()
