"""The one thread: it blocks on pipes, exits and the statistics socket."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Optional

from ..descriptors import pipe
from ..doorbell import Doorbell
from ..errors import ResourceError
from ..memory import PAGE, Memory, create_shared_memory
from . import fork_safety

_log = logging.getLogger("shmbridge")

# Called when the descriptor is readable or at its end; returns whether to go on watching it.
Callback = Callable[[], bool]


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
    watches and closes each when its callback returns False: no number is reused while the selector holds it.

    Thread-safety: all methods may be called from any thread. The callbacks run in the watcher's thread.

    Raises:
        ResourceError: no memory, descriptor or thread is left.

    Attributes:
        doorbell: where this process sleeps.
        doorbell_fd: the descriptor of its shared memory, for the children to inherit.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callback] = {}
        self._new: deque[Optional[tuple[int, Callback]]] = deque()  # None: close
        self._thread = threading.Thread(target=self._run, name="shmbridge watcher", daemon=True)
        with fork_safety.fork_blocked(), contextlib.ExitStack() as undo:
            self.doorbell_fd = create_shared_memory(PAGE)
            undo.callback(os.close, self.doorbell_fd)
            self.doorbell = Doorbell(Memory(self.doorbell_fd, PAGE), create=True)
            try:
                self._wake_read, self._wake_write = pipe()
                undo.callback(os.close, self._wake_read)
                undo.callback(os.close, self._wake_write)
                self._selector = undo.enter_context(selectors.PollSelector())  # has no descriptor
                self._thread.start()
            except (OSError, RuntimeError) as error:  # the latter of threading
                raise ResourceError(
                    f"cannot start the thread that watches Sprint: {error}; see `ulimit -n` (open files) and "
                    "`ulimit -u` (processes and threads) [descriptors-processes]"
                ) from error
            undo.pop_all()
            self._own = [self.doorbell_fd, self._wake_read, self._wake_write]
            fork_safety.register(self)

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Own the descriptor, and call back until the callback returns False."""
        self._new.append((descriptor, callback))
        os.write(self._wake_write, b"x")

    def unwatch(self, descriptor: int) -> None:
        """Close a descriptor that is being watched. Only callbacks may call this."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """End the thread and close all descriptors. No callback runs after that."""
        self._new.append(None)
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._close_all()

    def after_fork_in_child(self, _owner_pid: int) -> None:
        """Close the descriptors. The fork did not copy the thread."""
        self._selector.close()
        self._callbacks.update(item for item in self._new if item is not None)  # not yet taken by the thread
        self._close_all()

    def _close_all(self) -> None:
        # Remove each before closing it: a fork in between must not close a descriptor that reuses the number.
        while self._callbacks:
            os.close(self._callbacks.popitem()[0])
        while self._own:
            os.close(self._own.pop())

    def _run(self) -> None:
        with self._selector as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select()]
                if self._wake_read in ready:
                    ready.remove(self._wake_read)
                    os.read(self._wake_read, 4096)
                    if not self._take_new(selector):
                        return
                for descriptor in ready:
                    self._call(descriptor)
                self.doorbell.poke()

    def _take_new(self, selector: selectors.BaseSelector) -> bool:
        while self._new:
            item = self._new[0]
            if item is None:
                return False
            descriptor, callback = item
            self._callbacks[descriptor] = callback
            self._new.popleft()  # last: a fork in between closes the descriptors that it finds in either
            selector.register(descriptor, selectors.EVENT_READ)
        return True

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
