"""Lower bounds of an exchange: a copy of the bytes, a semaphore, a small message over a pipe.

They are implemented as peers, so that they are measured in the same turns.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Optional

import numpy as np

from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.memory import PAGE, Memory

from .peers.child import die_with_parent, pipe, run_module
from .peers.peer import Peer, PeerFailedError

_MESSAGE_BYTES = 64
_TIMEOUT = 30.0  # seconds
_SPIN_NS = 10**9


class Copy(Peer):
    """One np.copyto between two of the trainer's arrays, warm, in one process."""

    def _start(self) -> None:
        pass

    def round_trip(self, value: float) -> float:
        """Copy the matrix."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        np.copyto(work.error_signal, work.posteriors)
        return float(work.error_signal[0, 0, 0])


class PipePing(Peer):
    """64 bytes to another Python process and back."""

    def _start(self) -> None:
        to_child = self.resources.enter_context(pipe())
        to_parent = self.resources.enter_context(pipe())
        inherited = (to_child[0], to_parent[1])
        self.resources.enter_context(run_module(__name__, "pipe", *inherited, descriptors=inherited))
        self._in, self._out = to_parent[0], to_child[1]
        self._message = bytes(_MESSAGE_BYTES)

    def round_trip(self, value: float) -> float:
        """Send a message and wait for the answer."""
        os.write(self._out, self._message)
        if len(os.read(self._in, _MESSAGE_BYTES)) != _MESSAGE_BYTES:
            raise PeerFailedError("the other end of the pipe is closed")
        return value


class SemaphorePing(Peer):
    """Two Python processes that post to each other's semaphore through cffi."""

    spinning = False

    def _start(self) -> None:
        descriptors = [self.resources.enter_context(_page()) for _ in range(3)]
        self._own = Doorbell(Memory(descriptors[0], PAGE), create=True)
        self._other = Doorbell(Memory(descriptors[1], PAGE), create=True)
        self._flag = mmap.mmap(descriptors[2], PAGE)
        self.resources.callback(self._flag.close)
        self._nothing = WaitList([])  # no rings, only the token
        self.resources.enter_context(run_module(__name__, "semaphore", *descriptors, descriptors=descriptors))

    def round_trip(self, value: float) -> float:
        """Post to the other process and wait for its post."""
        self._other.poke()
        if not _wait(self._own, self._nothing, self.spinning, _TIMEOUT):
            raise PeerFailedError(f"the other process did not post within {_TIMEOUT} seconds")
        return value


class SemaphorePingSpinning(SemaphorePing):
    """The same, but both processes spin and never sleep."""

    spinning = True

    def begin_block(self) -> None:
        """Make the child spin."""
        self._flag[0] = 1
        self.round_trip(0.0)

    def end_block(self) -> None:
        """Make the child sleep."""
        self._flag[0] = 0
        self.round_trip(0.0)


@contextlib.contextmanager
def _page() -> Iterator[int]:
    """Yield a page of anonymous shared memory."""
    descriptor = os.memfd_create("shmbridge-bench")
    try:
        os.truncate(descriptor, PAGE)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(doorbell: Doorbell, nothing: WaitList, spinning: bool, timeout: Optional[float]) -> bool:
    """Wait for a post. If `spinning`, never sleep, unlike a single wait at the doorbell."""
    if not spinning:
        return doorbell.wait(nothing, timeout, 0)
    while not doorbell.wait(nothing, 0.0, _SPIN_NS):
        pass
    return True


def _serve_pipe(read_end: int, write_end: int) -> None:
    while True:
        os.write(write_end, os.read(read_end, _MESSAGE_BYTES))


def _serve_semaphore(parent_page: int, own_page: int, flag_page: int) -> None:
    parent = Doorbell(Memory(parent_page, PAGE), create=False)
    own = Doorbell(Memory(own_page, PAGE), create=False)
    flag = mmap.mmap(flag_page, PAGE)
    nothing = WaitList([])
    while True:
        _wait(own, nothing, bool(flag[0]), None)
        parent.poke()


if __name__ == "__main__":
    die_with_parent()
    if sys.argv[1] == "pipe":
        _serve_pipe(*map(int, sys.argv[2:]))
    else:
        _serve_semaphore(*map(int, sys.argv[2:]))
