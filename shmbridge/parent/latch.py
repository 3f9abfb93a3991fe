"""An event that happens once. A signal handler may raise while a thread waits for it."""

from __future__ import annotations

import time
from typing import Any, Optional

from .._native import ffi, lib

__all__ = ["Latch"]

_MAX_TIMEOUT = 1e9  # seconds; a longer one would overflow in nanoseconds


class Latch:
    """Like threading.Event, but it waits in C: its locks cannot stay held, because there are none.

    Thread-safety: all methods may be called from any thread.
    """

    __slots__ = ("_word",)

    def __init__(self) -> None:
        self._word: Any = ffi.new("uint32_t *")

    @property
    def is_open(self) -> bool:
        """Whether the event has happened."""
        return bool(self._word[0])

    def open(self) -> None:
        """Let all waiters return, now and later."""
        lib.shmb_latch_open(self._word)

    def opener(self) -> Any:
        """Return an object that opens the latch when it is deleted.

        As an argument of a thread, it shows the end of the thread, also if no memory is left to begin it.
        """
        return ffi.gc(self._word, lib.shmb_latch_open)

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Wait at most `timeout` seconds, or without limit. Return whether the event has happened.

        Handles signals: KeyboardInterrupt can be raised here.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_open:
            left = -1
            if deadline is not None:
                left = int(max(0.0, min(deadline - time.monotonic(), _MAX_TIMEOUT)) * 1e9)
            # After SHMB_INTERRUPTED, Python runs the signal's handler before the next statement.
            if lib.shmb_latch_wait(self._word, left) == lib.SHMB_TIMED_OUT:
                return self.is_open
        return True
