"""The thread that blocks on everything that is not in shared memory: pipes, output, and deaths."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Optional

from ..doorbell import Doorbell
from ..errors import ResourceError
from ..memory import PAGE, Memory
from . import forks
from .logged import handlers_contained
from .reserve import create_object

_log = logging.getLogger("shmbridge")

# Called when the descriptor is readable or at its end; returns whether to go on watching it.
Callback = Callable[[], bool]


class Watcher:
    """Calls back when a descriptor is readable, and then wakes whoever sleeps at the doorbell.

    One for a pool, however many children. Blocks without a timeout. A descriptor that is watched belongs
    to the watcher, which closes it when its callback wants no more: so no number is used anew while the
    selector still knows the old one.

    Thread-safety: all methods may be called from any thread. The callbacks run in the watcher's thread.

    Raises:
        ResourceError: no memory, descriptor or thread is left.

    Attributes:
        doorbell: where this process sleeps.
        doorbell_fd: the descriptor of the object in which it lies, for the children to inherit.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callback] = {}
        self._new: deque[Optional[tuple[int, Callback]]] = deque()  # None: close
        self._thread = threading.Thread(target=self._run, name="shmbridge watcher", daemon=True)
        with forks.held_off(), contextlib.ExitStack() as undo:
            self.doorbell_fd = create_object(PAGE)
            undo.callback(os.close, self.doorbell_fd)
            self.doorbell = Doorbell(Memory(self.doorbell_fd, PAGE), create=True)
            try:
                self._wake_read, self._wake_write = os.pipe()
                undo.callback(os.close, self._wake_read)
                undo.callback(os.close, self._wake_write)
                self._selector = undo.enter_context(selectors.DefaultSelector())
                self._thread.start()
            except (OSError, RuntimeError) as error:  # the latter of threading
                raise ResourceError(
                    f"cannot start the thread that watches Sprint: {error}; see `ulimit -n` (open files) and "
                    "`ulimit -u` (processes and threads) [descriptors-processes]"
                ) from error
            undo.pop_all()
            self._own = [self.doorbell_fd, self._wake_read, self._wake_write]
            forks.let_go_in_forks(self)

    def watch(self, descriptor: int, callback: Callback) -> None:
        """Own the descriptor, and call back until the callback returns False."""
        self._new.append((descriptor, callback))
        os.write(self._wake_write, b"x")

    def close(self) -> None:
        """End the thread and close all descriptors. Nothing is called back any more."""
        self._new.append(None)
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._close_all()

    def leave_to_parent(self, _parent_pid: int) -> None:
        """After a fork, in the child of the fork, where the thread is not: let go of the descriptors."""
        self._selector.close()
        self._callbacks.update(item for item in self._new if item is not None)  # not taken by then
        self._close_all()

    def _close_all(self) -> None:
        # Each is forgotten first: a fork in between would else close what has its number by then.
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
                    self._call(selector, descriptor)
                self.doorbell.poke()

    def _take_new(self, selector: selectors.BaseSelector) -> bool:
        while self._new:
            item = self._new[0]
            if item is None:
                return False
            descriptor, callback = item
            self._callbacks[descriptor] = callback
            self._new.popleft()  # not before: a fork in between closes what it finds in either
            selector.register(descriptor, selectors.EVENT_READ)
        return True

    def _call(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        try:
            go_on = self._callbacks[descriptor]()
        except Exception:
            with handlers_contained():
                _log.exception("watching descriptor %d failed [bad-message]", descriptor)
            go_on = False
        if not go_on:
            selector.unregister(descriptor)
            del self._callbacks[descriptor]
            os.close(descriptor)
