"""A trainer with a logging handler that acts when Sprint prints "now", in the watcher's thread.

Settings: `act` is a key of ACTS. Sprint prints the line once the file `mark` exists; if `mark` is empty,
it prints the line when it exits.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Optional

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

MARK: str = SETTINGS["mark"]
act: Optional[Callable[[], Any]] = None


class Handler(logging.Handler):
    """Calls `act` at the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Act, and report it."""
        if record.getMessage().endswith("now"):
            assert act is not None
            act()
            say("acted")


def create_mark() -> None:
    """Let Sprint print the line."""
    open(MARK, "w").close()


def run_batch() -> None:
    """Run a batch of one segment."""
    pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])


def wait_for_the_end() -> None:
    """Wait until the pool has no thread."""
    while any("shmbridge" in thread.name for thread in threading.enumerate()):
        time.sleep(0.005)
    say("ended")


def collect() -> None:
    """Let the handler collect the pool."""
    global pool, act
    act = gc.collect
    cycle: list[Any] = [pool]
    cycle.append(cycle)
    del pool, cycle
    create_mark()
    wait_for_the_end()


def close() -> None:
    """Let the handler close the pool."""
    global act
    act = pool.close
    create_mark()
    wait_for_the_end()


def close_in_call() -> None:
    """Let the handler close the pool while the main thread runs batches."""
    global act
    act = pool.close
    create_mark()
    try:
        while True:
            run_batch()
    except shmbridge.ClosedError:
        wait_for_the_end()


def use() -> None:
    """Let the handler run a batch, which would wait; then close the pool."""
    global act
    act = use_stopped
    if MARK:
        create_mark()
        sys.stdin.readline()
    pool.close()


def use_stopped() -> None:
    """Run a batch while Sprint is stopped, and report the error."""
    pid = pool.stats().children[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        run_batch()
    except shmbridge.UsageError as error:
        say(str(error))
    os.kill(pid, signal.SIGCONT)


ACTS = {"collect": collect, "close": close, "close in a call": close_in_call, "use": use}
logger = logging.getLogger("shmbridge.sprint")
logger.addHandler(Handler())
logger.setLevel("INFO")
gc.disable()
pool = shmbridge.SprintInstancePool(**OPTIONS)
ACTS[SETTINGS["act"]]()
