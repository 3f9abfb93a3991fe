"""Keep a fork of the trainer (a data loader, for instance) from acting as an end of the bridge.

A fork shares the memory, but it must not move positions, keep pipes open, or end the children.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

__all__ = ["fork_blocked", "register"]


class Owner(Protocol):
    """An object that belongs to the process that created it."""

    def after_fork_in_child(self, owner_pid: int) -> None:
        """Drop all resources without using them: this process is a fork of `owner_pid`."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_pid = os.getpid()
# Reentrant: a signal handler may fork in the thread that holds it.
_blocked = threading.RLock()


def register(owner: Owner) -> None:
    """Call `owner.after_fork_in_child` in each fork, for as long as the owner lives."""
    _owners.add(owner)


@contextlib.contextmanager
def fork_blocked() -> Iterator[None]:
    """Delay forks by other threads until the block ends: by then, each descriptor has an owner."""
    with _blocked:
        yield


def _before_fork() -> None:
    blocked = _blocked
    try:
        blocked.acquire()
    except BaseException:  # of a signal handler; Python reports it, and forks all the same
        blocked.acquire()
        raise


def _after_fork_in_parent() -> None:
    _blocked.release()


def _after_fork_in_child() -> None:
    global _pid, _blocked  # noqa: PLW0603 - of this process
    owner_pid, _pid = _pid, os.getpid()
    _blocked = threading.RLock()
    for owner in list(_owners):
        owner.after_fork_in_child(owner_pid)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
