"""The lock of a pool, which refuses a call within a call."""

from __future__ import annotations

from typing import NoReturn

from .. import _ring
from ..errors import UsageError
from .watcher import check_can_wait

__all__ = ["CallLock"]


class CallLock(_ring.CallLock):
    """The lock that the pool's call holds. Other threads wait for it; this thread gets a UsageError."""

    def _raise_nested(self) -> NoReturn:
        raise UsageError(
            "the pool was called from within a call of its own: by the score function, a copy callback, a "
            "signal handler or a finaliser, for instance; call it after that call has returned, or use "
            "another pool [nested-call]"
        )

    def _check_can_wait(self) -> None:
        check_can_wait()
