"""Output of the executable, and the ways in which the process ends.

RASR does not always end with an exception. A "critical error" calls exit(1) immediately, even below a Python
frame that would catch an exception; a failed assertion calls abort(). This package raises CriticalError or
FailedAssertionError. They end the process in two places: in the callback, where they would otherwise reach
the user's Python code, and in main.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

__all__ = ["CriticalError", "FailedAssertionError", "abort", "exit_now", "log", "report", "warn"]


class CriticalError(Exception):
    """A critical error in RASR: a message, then exit code 1."""


class FailedAssertionError(Exception):
    """A failed assertion in RASR: a message, then SIGABRT."""


def log(message: str) -> None:
    """Write a line to standard output, and flush it: the parent may read it now."""
    _write(sys.stdout, f"refsprint: {message}\n")


def warn(message: str) -> None:
    """Write a line to standard error."""
    _write(sys.stderr, f"refsprint: {message}\n")


def report(kind: str, message: str) -> None:
    """Write an "error" or a "critical-error" to standard error, in the element that RASR writes."""
    _write(sys.stderr, f'<{kind} component="refsprint">\n  {message}\n</{kind}>\n')


def exit_now(code: int, message: str = "") -> NoReturn:
    """End the process, even below Python frames that catch exceptions.

    Run the functions that are registered with atexit, because RASR finalizes Python before it exits.
    """
    if message:
        report("critical-error", f"{message} [refsprint-exit]")
    atexit._run_exitfuncs()
    _flush()
    os._exit(code)


def abort(message: str, finalize: bool = False) -> NoReturn:
    """End the process with SIGABRT. If `finalize` is set, first run the functions registered with atexit."""
    if finalize:
        atexit._run_exitfuncs()
    warn(f"assertion failed: {message} [refsprint-exit]")
    _flush()
    os.abort()


def _write(stream: object, text: str) -> None:
    # The parent may have closed the pipes, and user code may have replaced the streams.
    try:
        stream.write(text)  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError, UnicodeError):
        pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")
