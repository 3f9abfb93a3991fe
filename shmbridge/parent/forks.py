"""Keeps a fork of the trainer's process (a data loader, say) from acting as an end of the bridge.

It shares the memory, but must not move positions, hold the pipes open or end the children.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

__all__ = ["held_off", "let_go_in_forks"]


class Owner(Protocol):
    """Something that belongs to the process that made it."""

    def leave_to_parent(self, parent_pid: int) -> None:
        """After a fork, in the child of the fork: let go of everything without touching it."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_pid = os.getpid()
# Reentrant: a fork in the thread that holds it, such as in the handler of a signal, must not wait for itself.
_starting = threading.RLock()


def let_go_in_forks(owner: Owner) -> None:
    """Have `owner.leave_to_parent` called in each fork, for as long as the owner lives."""
    _owners.add(owner)


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Forks that other threads make wait until this is left: by then each descriptor has its owner."""
    with _starting:
        yield


def _after_fork_in_child() -> None:
    global _pid
    parent_pid, _pid = _pid, os.getpid()
    _starting.release()
    for owner in list(_owners):
        owner.leave_to_parent(parent_pid)


os.register_at_fork(
    before=_starting.acquire,
    after_in_parent=_starting.release,
    after_in_child=_after_fork_in_child,
)
