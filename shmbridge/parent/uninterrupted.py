"""Run a function where no signal handler can interrupt it."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import ResourceError
from .latch import Latch

__all__ = ["uninterrupted"]

_Result = TypeVar("_Result")


def uninterrupted(function: Callable[[], _Result]) -> _Result:
    """Call a function in a thread of its own if this is the main thread; return what it returns.

    Signal handlers run in the main thread only. If one raises, its exception is raised here, but only after
    the function has returned: what it creates has an owner by then, if the function itself stores it.

    Raises:
        ResourceError: no thread is left.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return function()
    call = _Call(function)
    try:
        start_thread(call.run, call.done.opener())
        call.done.wait()
    except BaseException:
        if not call.cancel():
            call.done.wait()
        raise
    return call.take_result()


def start_thread(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a new thread. Unlike threading.Thread.start, this waits for nothing.

    Raises:
        ResourceError: no thread is left.
    """
    try:
        _thread.start_new_thread(function, arguments)
    except RuntimeError as error:
        raise ResourceError(
            f"cannot start a thread: {error}; see `ulimit -u` (processes and threads) [descriptors-processes]"
        ) from error


class _Call(Generic[_Result]):
    """A call in another thread.

    Attributes:
        done: opens when the thread has ended.
    """

    def __init__(self, function: Callable[[], _Result]) -> None:
        self.done = Latch()
        self._functions = [function]  # empty once it is called or cancelled; pop() is atomic
        self._results: list[_Result] = []
        self._error: BaseException = ResourceError(
            "no memory is left to start a thread; see `ulimit -v` [descriptors-processes]"
        )

    def run(self, opener: object) -> None:
        """Call the function, unless `cancel` came first."""
        del opener  # a traceback that refers to this frame must not keep it
        try:
            self._results.append(self._functions.pop()())
        except BaseException as error:
            self._error = error

    def cancel(self) -> bool:
        """Prevent the call. Return False if it has begun."""
        try:
            self._functions.pop()
        except IndexError:
            return False
        return True

    def take_result(self) -> _Result:
        """Return what the function returned, or raise what it raised."""
        if self._results:
            return self._results.pop()
        try:
            raise self._error
        finally:
            del self._error  # its traceback refers to this frame
