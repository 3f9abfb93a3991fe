"""The semaphore that says "look again": where a process sleeps until its peers have news."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from ._native import ffi, lib
from .memory import DOORBELL_OFFSET, Memory

# The longest that a waiter spins before it sleeps; how long it does is adapted to how long it has waited
# of late (csrc/wait.c). On a single core, spinning would only keep the peer from running.
DEFAULT_MAX_SPIN_NS = 200_000 if len(os.sched_getaffinity(0)) > 1 else 0

_OK = lib.SHMB_OK
_LONGEST_TIMEOUT = 1e9  # seconds: what is longer is for ever


class Doorbell:
    """A doorbell in shared memory.

    Thread-safety: any thread of any process may ring and poke; one thread at a time may wait.

    Args:
        memory: the mapping, at whose beginning the doorbell lies.
        create: whether to write it anew (its owner does, before anybody else maps it).
    """

    def __init__(self, memory: Memory, *, create: bool) -> None:
        pointer = lib.shmb_doorbell_open(memory.pointer, DOORBELL_OFFSET, int(create))
        if pointer == ffi.NULL:
            raise MemoryError("no memory for a doorbell [out-of-memory]")
        self.pointer: Any = ffi.gc(pointer, lib.shmb_doorbell_free)

    @property
    def waited(self) -> float:
        """For how long it has been waited here in all, in seconds; without a wait that is under way."""
        return float(lib.shmb_waited(self.pointer)) / 1e9

    def poke(self) -> None:
        """Wake the waiter, or let its next wait return at once: there is news outside of the rings."""
        lib.shmb_doorbell_poke(self.pointer)

    def wait(
        self, ends: WaitList, timeout: Optional[float] = None, max_spin_ns: int = DEFAULT_MAX_SPIN_NS
    ) -> bool:
        """Sleep until one of the ring ends may have news, or somebody pokes.

        The GIL is released meanwhile; signals are handled (KeyboardInterrupt leaves from here).

        Args:
            ends: the ring ends to look at.
            timeout: seconds; None waits for ever.
            max_spin_ns: the most nanoseconds to look again and again before sleeping.

        Returns:
            False if the time ran out. True is no promise of news: look, and wait again.
        """
        if lib.shmb_spin(self.pointer, ends.pointer, ends.length, max_spin_ns) == _OK:
            return True
        timeout_ns = -1 if timeout is None else int(min(max(timeout, 0), _LONGEST_TIMEOUT) * 1e9)
        result = lib.shmb_sleep(self.pointer, ends.pointer, ends.length, timeout_ns)
        # After SHMB_INTERRUPTED the caller looks again; Python runs the signal's handler on the way.
        return bool(result != lib.SHMB_TIMED_OUT)


class WaitList:
    """The ring ends that a wait looks at, as C wants them."""

    def __init__(self, ends: Sequence[Any]) -> None:
        self._ends = list(ends)  # keeps them alive: the C array holds bare pointers
        self.pointer: Any = ffi.new("shmb_ring_end *[]", [end.pointer for end in self._ends])
        self.length = len(self._ends)
