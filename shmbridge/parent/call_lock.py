"""The lock of a pool, which refuses a call within a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from .. import _ring
from ..errors import UsageError
from .watcher import check_can_wait

__all__ = ["CallLock"]


class CallLock(_ring.CallLock):
    """The lock that the pool's call holds. Other threads wait for it; this thread gets a UsageError.

    Args:
        before_wait: is called by a thread that must wait; the holder can learn of it.
    """

    def __init__(self, before_wait: Callable[[], None]) -> None:
        self._notify = before_wait

    def _raise_nested(self) -> NoReturn:
        raise UsageError(
            "the pool was called from within a call of its own: by the score function, a copy callback, a "
            "signal handler or a finaliser, for instance; call it after that call has returned, or use "
            "another pool [nested-call]"
        )

    def _before_wait(self) -> None:
        check_can_wait()
        self._notify()
