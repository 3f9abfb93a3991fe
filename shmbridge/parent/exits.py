"""Ends, at the interpreter's exit, the pools that other threads are just starting.

They have no owner yet who would close them. The thread that passes on Sprint's output would run into the end
of the interpreter, which aborts where it finds a thread within standard output or error.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Iterator

__all__ = ["stopped_at_exit"]

_starts: set[tuple[Callable[[], None], threading.Event]] = set()


@contextlib.contextmanager
def stopped_at_exit(stop: Callable[[], None]) -> Iterator[None]:
    """Should the interpreter end before this is left: call `stop`, and wait until it has been left."""
    start = (stop, threading.Event())
    _starts.add(start)
    try:
        yield
    finally:
        _starts.discard(start)
        start[1].set()


def _stop_all() -> None:
    for stop, left in list(_starts):
        stop()
        left.wait()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_starts.clear)  # the threads that start them are not there
