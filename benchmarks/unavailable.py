"""A peer that fails or hangs is a result too: stop it, and give the reason."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Optional

from .peers import PeerFailedError

_REASON_LENGTH = 500


def reason_of(error: Exception) -> str:
    """Return the reason why a peer could not run, in one line."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    kind = "" if isinstance(error, PeerFailedError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:_REASON_LENGTH]


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Raise PeerFailedError in the body of the context when the time is over."""

    def ring(_number: int, _frame: Optional[FrameType]) -> None:
        raise PeerFailedError(f"no answer within {seconds} seconds")

    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
