"""A Sprint that hangs at segment c/s1 while a file exists.

Settings: `how` is a key of HANGS; `mark` is the file, which Sprint removes. Sprint appends the name of each
segment to the file `log`.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import prelude
from prelude import setting

from shmbridge._native import lib


def loop() -> None:
    """Loop in Python."""
    while True:
        pass


def wait_for_lock() -> None:
    """Wait for a lock that is never released."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def block_signal() -> None:
    """Block the signal that prints the stack, and sleep."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [lib.SHMB_STACK_SIGNAL])
    time.sleep(1000)


HANGS: dict[str, Callable[[], object]] = {
    "an endless loop in Python": loop,
    "an endless loop in C that holds the GIL": lambda: sum(itertools.repeat(0)),
    "a lock that nobody releases": wait_for_lock,
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "the signal for the stack is blocked": block_signal,
}


def hang() -> None:
    """Hang in the way of the setting."""
    HANGS[setting("how")]()


def callback(command: str, **arguments: Any) -> Any:
    """Hang if it is time; otherwise answer as prelude does."""
    if command == "calculate_criterion":
        with open(setting("log"), "a") as log:
            print(arguments["segment_name"], file=log)
        if arguments["segment_name"] == "c/s1" and os.path.exists(setting("mark")):
            os.unlink(setting("mark"))
            hang()
    return prelude.callback(command, **arguments)


prelude.init().run_control_loop(callback=callback)
