"""A trainer in which other code takes the exit statuses of its children.

Settings: `taker` is a key of TAKERS, `run` a key of RUNS.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say


def ignore() -> None:
    """Let the system discard each exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def wait_in_handler() -> None:
    """Take each exit status in a signal handler."""

    def take(*_: Any) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, take)


def wait_in_thread() -> None:
    """Take each exit status in a thread."""

    def take() -> None:
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                pass

    threading.Thread(target=take, daemon=True).start()


def kill_with_segments() -> None:
    """Kill Sprint five times with a segment in flight, and report each error."""
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        for _ in range(5):
            claim = pool.claim("c/s1", 3, 4)
            claim.posteriors[:] = 1
            pid = pool.stats().children[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            sent = claim.send()
            os.kill(pid, signal.SIGKILL)
            try:
                sent.result()
            except shmbridge.PeerGoneError as error:
                say([error.exit_code, error.signal_name, str(error)])
            else:
                say("there was a result")
    say("closed")


def serve_scores() -> None:
    """Serve scores to a recogniser that is killed, and report the error."""
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        try:
            pool.serve_scores(lambda segment: np.zeros((len(segment), 5)))
        except shmbridge.PeerGoneError as error:
            say([error.exit_code, error.signal_name, str(error)])
        else:
            say("as if the corpus were done")


def end_at_once() -> None:
    """Start ten Sprints that end at once; report each error, and the number of threads that are left."""
    for _ in range(10):
        try:
            shmbridge.SprintInstancePool("/bin/true", ring_size=65536)
        except shmbridge.PeerGoneError as error:
            say([error.exit_code, error.signal_name])
    say(sum(thread.name.startswith("shmbridge") for thread in threading.enumerate()))


TAKERS: dict[str, Callable[[], None]] = {
    "SIGCHLD is ignored": ignore,
    "a signal handler waits": wait_in_handler,
    "a thread waits": wait_in_thread,
}
RUNS = {
    "kill with segments": kill_with_segments,
    "serve scores": serve_scores,
    "end at once": end_at_once,
}
TAKERS[SETTINGS["taker"]]()
RUNS[SETTINGS["run"]]()
