"""The one thread: it blocks on pipes, exits and the statistics socket."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import selectors
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Optional

from ..descriptors import pipe
from ..doorbell import Doorbell
from ..errors import ResourceError, UsageError
from ..memory import PAGE, Memory, create_shared_memory
from . import fork_safety
from .latch import Latch
from .uninterrupted import start_thread, uninterrupted

_log = logging.getLogger("shmbridge")

_CATCH_UP_SECONDS = 1.0  # the thread may be in a log handler of the user's that waits for the caller

# Called when the descriptor is readable or at its end; returns whether to go on watching it.
Callback = Callable[[], bool]


_threads: set[int] = set()  # the identifiers of all watchers' threads


def in_watcher_thread() -> bool:
    """Return whether this is called from a callback of any watcher, for instance from a logging handler.

    There, nothing must be waited for that a watcher reports.
    """
    return threading.get_ident() in _threads


def check_can_wait() -> None:
    """Raise UsageError in a watcher's thread."""
    if in_watcher_thread():
        raise UsageError(
            "the pool was called in the thread that watches Sprint, by a logging handler for instance; this "
            "thread cannot wait for Sprint: make the call in another thread [watcher-thread]"
        )


@contextlib.contextmanager
def errors_contained() -> Iterator[None]:
    """Write any exception to standard error: the thread must go on.

    A logging handler of the user's may raise anything, such as SystemExit.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(BaseException):  # standard error may be closed
            traceback.print_exc()


class Watcher:
    """Call back when a descriptor is readable, then wake the thread that sleeps at the doorbell.

    A pool has one watcher for all its children. It blocks without a timeout. It owns the descriptors that it
    watches and closes each when its callback returns False: no number is reused while it polls them.

    Thread-safety: all methods may be called from any thread. The callbacks run in the watcher's thread.

    Attributes:
        doorbell: where this process sleeps.
        doorbell_fd: the descriptor of its shared memory, for the children to inherit.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callback] = {}
        self._new: deque[Optional[tuple[int, Callback]]] = deque()  # None: close
        self._own: list[int] = []
        self._lock = threading.RLock()  # held while _wake_write is written to or closed
        self._wake_write = -1
        self._selector = selectors.PollSelector()  # has no descriptor
        self._begun, self._ended = Latch(), Latch()
        self._is_started = False

    def start(self) -> None:
        """Start the thread. After an exception, also that of a signal handler, call `close`.

        Raises:
            ResourceError: no memory, descriptor or thread is left.
        """
        uninterrupted(self._start)

    def _start(self) -> None:
        with fork_safety.fork_blocked():
            fork_safety.register(self)
            self.doorbell_fd = create_shared_memory(PAGE)
            self._own.append(self.doorbell_fd)
            self.doorbell = Doorbell(Memory(self.doorbell_fd, PAGE), create=True)
            try:
                self._wake_read, self._wake_write = pipe()
            except OSError as error:
                raise ResourceError(
                    f"cannot open a pipe: {error}; see `ulimit -n` (open files) [descriptors-processes]"
                ) from error
            self._own.append(self._wake_read)
            # Not threading.Thread, whose start waits without end if no memory is left to begin the thread.
            start_thread(self._run, self._begun.opener(), self._ended.opener())
            self._begun.wait()
            if self._ended.is_open:
                raise ResourceError(
                    "no memory is left to start a thread; see `ulimit -v` [descriptors-processes]"
                )
        self._is_started = True
        self.doorbell.poke()  # in place of the pokes that came before

    def poke(self) -> None:
        """Wake the thread that sleeps at the doorbell, or make its next wait return at once."""
        if self._is_started:
            self.doorbell.poke()

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Own the descriptor, and call back until the callback returns False."""
        self._new.append((descriptor, callback))
        self._wake()

    def catch_up(self) -> None:
        """Wait until each callback has read what is readable now."""
        if in_watcher_thread():
            return
        reached = Latch()

        def at_end() -> bool:
            reached.open()
            return False

        with contextlib.suppress(OSError):  # no descriptor is left: the caller gets less
            read_end, write_end = pipe()
            os.close(write_end)
            self.watch(read_end, at_end)  # it is readable at once, and comes after the others
            reached.wait(_CATCH_UP_SECONDS)

    def close(self) -> None:
        """End the thread and close all descriptors. No callback runs after that. May be called again.

        A callback must not call this: see `in_watcher_thread`.
        """
        if self._begun.is_open:
            self._new.append(None)
            with contextlib.suppress(BrokenPipeError):  # an earlier wake may have ended the thread just now
                self._wake()
            self._ended.wait()
        self._close_all()  # all that the thread could not

    def after_fork_in_child(self, _owner_pid: int) -> None:
        """Close the descriptors. The fork did not copy the thread."""
        self._lock = threading.RLock()  # a thread that the fork did not copy may hold the old one
        if self._new and self._new[0] is not None and self._new[0][0] in self._callbacks:
            self._new.popleft()  # the thread was about to
        self._close_all()

    def _wake(self) -> None:
        with self._lock:
            if self._wake_write >= 0:
                os.write(self._wake_write, b"x")

    def _close_all(self) -> None:
        # Remove each before closing it: a fork in between must not close a descriptor that reuses the number.
        while self._callbacks:
            os.close(self._callbacks.popitem()[0])
        while self._new:
            new = self._new.popleft()
            if new is not None:
                os.close(new[0])
        while self._own:
            os.close(self._own.pop())
        with self._lock:
            descriptor, self._wake_write = self._wake_write, -1
            if descriptor >= 0:
                os.close(descriptor)

    def _run(self, *openers: object) -> None:
        del openers  # a traceback that refers to this frame must not keep them
        self._begun.open()
        this = threading.get_ident()
        _threads.add(this)
        try:
            threading.current_thread().name = "shmbridge watcher"  # for log records and debuggers
            self._selector.register(self._wake_read, selectors.EVENT_READ)
            while self._take_new():
                ready = self._wait()
                if self._wake_read in ready:
                    ready.remove(self._wake_read)
                    os.read(self._wake_read, 4096)
                for descriptor in ready:
                    self._call(descriptor)
                self.doorbell.poke()
        finally:
            self._close_all()
            _threads.discard(this)
            # Python before 3.12 keeps the name of a thread that threading has not started.
            getattr(threading, "_active", {}).pop(this, None)

    def _wait(self) -> list[int]:
        """Return the readable descriptors, once there is one."""
        try:
            return [key.fd for key, _ in self._selector.select()]
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # RLIMIT_NOFILE is now lower than the number of descriptors, of which poll then takes none.
            return select.select([self._wake_read, *self._callbacks], [], [])[0]

    def _take_new(self) -> bool:
        """Watch the new descriptors. Return False if the watcher is to end."""
        while self._new:
            item = self._new[0]
            if item is None:
                return False
            descriptor, callback = item
            self._callbacks[descriptor] = callback
            self._new.popleft()  # last: a fork in between closes the descriptors that it finds in either
            self._selector.register(descriptor, selectors.EVENT_READ)
        return True

    def unwatch(self, descriptor: int) -> None:
        """Close a descriptor that is being watched. Only callbacks may call this."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def _call(self, descriptor: int) -> None:
        callback = self._callbacks.get(descriptor)
        if callback is None:  # an earlier callback has closed it
            return
        go_on = False
        with errors_contained():
            try:
                go_on = callback()
            except BaseException:
                _log.exception("watching descriptor %d failed [bad-message]", descriptor)
        if not go_on:
            self.unwatch(descriptor)
