"""The semaphore at which a process sleeps until its peers have news."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from ._native import ffi, lib
from .memory import DOORBELL_OFFSET, Memory

# The upper bound of a spin before the sleep; csrc/wait.c adapts its length to recent waits. On a single core,
# spinning would only keep the peer from running.
DEFAULT_MAX_SPIN_NS = 200_000 if len(os.sched_getaffinity(0)) > 1 else 0

_OK = lib.SHMB_OK
_MAX_TIMEOUT = 1e9  # seconds; a longer one would overflow in nanoseconds


class Doorbell:
    """A doorbell in shared memory.

    Thread-safety: any thread of any process may ring and poke; one thread at a time may wait.

    Args:
        memory: the mapping, which starts with the doorbell.
        create: initialize it. Its owner does so before another process maps it.
    """

    def __init__(self, memory: Memory, *, create: bool) -> None:
        pointer = lib.shmb_doorbell_open(memory.pointer, DOORBELL_OFFSET, int(create))
        if pointer == ffi.NULL:
            raise MemoryError("no memory for a doorbell [out-of-memory]")
        self.pointer: Any = ffi.gc(pointer, lib.shmb_doorbell_free)

    @property
    def waited(self) -> float:
        """The total duration of all finished waits, in seconds."""
        return float(lib.shmb_waited(self.pointer)) / 1e9

    def poke(self) -> None:
        """Wake the waiter, or make its next wait return at once: for events that no ring shows."""
        lib.shmb_doorbell_poke(self.pointer)

    def wait(
        self, ends: WaitList, timeout: Optional[float] = None, max_spin_ns: int = DEFAULT_MAX_SPIN_NS
    ) -> bool:
        """Sleep until one of the ring ends may have news, or until a poke.

        Releases the GIL meanwhile. Handles signals: KeyboardInterrupt can be raised here.

        Args:
            ends: the ring ends to check.
            timeout: in seconds; None for no limit.
            max_spin_ns: the maximum duration of the spin before the sleep.

        Returns:
            False if the time ran out. True may be spurious: check the rings, and wait again.
        """
        if lib.shmb_spin(self.pointer, ends.pointer, ends.length, max_spin_ns) == _OK:
            return True
        timeout_ns = -1 if timeout is None else int(min(max(timeout, 0), _MAX_TIMEOUT) * 1e9)
        result = lib.shmb_sleep(self.pointer, ends.pointer, ends.length, timeout_ns)
        # After SHMB_INTERRUPTED, Python runs the signal's handler and the caller checks the rings again.
        return bool(result != lib.SHMB_TIMED_OUT)


class WaitList:
    """The ring ends that a wait checks, as a C array."""

    def __init__(self, ends: Sequence[Any]) -> None:
        self._ends = list(ends)  # keeps them alive: the C array has bare pointers
        self.pointer: Any = ffi.new("shmb_ring_end *[]", [end.pointer for end in self._ends])
        self.length = len(self._ends)
