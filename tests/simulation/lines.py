"""Do something within a call: lose the core at a line, or receive Ctrl-C where CPython handles signals."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import shmbridge.parent
from support.interruptions import signal_tracer

_FOLDER = str(Path(shmbridge.parent.__file__).parent)


@contextlib.contextmanager
def at_line(number: int, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` before the n-th line of shmbridge/parent that the block executes."""
    left = number

    def in_frame(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                action()
        return in_frame

    def in_call(frame: FrameType, _event: str, _: Any) -> Any:
        return in_frame if frame.f_code.co_filename.startswith(_FOLDER) else None

    with _traced(in_call):
        yield


@contextlib.contextmanager
def at_signal_point(number: int) -> Iterator[None]:
    """Send SIGINT at the n-th point of shmbridge/parent at which CPython handles signals."""
    left = number

    def is_due(code: CodeType, _instruction: int) -> bool:
        nonlocal left
        left -= code.co_filename.startswith(_FOLDER)
        return left == 0

    with _traced(signal_tracer(is_due)):
        yield


@contextlib.contextmanager
def _traced(trace: Any) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
