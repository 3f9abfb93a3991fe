"""Output of the executable, and the ways in which it ends.

RASR ends in two unkind ways: a "critical error" calls exit(1) on the spot, even below a Python frame
that would have caught an exception; a failed assertion calls abort(). Code of this package raises
CriticalError or FailedAssertionError; only where such an exception would reach the user's Python code (the
callback), or has reached the top (main), it is turned into the end of the process.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

__all__ = ["CriticalError", "FailedAssertionError", "abort", "abort_finalized", "exit_now", "log", "warn"]


class CriticalError(Exception):
    """What RASR calls a critical error: a message, then exit code 1."""


class FailedAssertionError(Exception):
    """What is a failed assertion in RASR: a message, then SIGABRT."""


def log(message: str) -> None:
    """Write a line to standard output, at once: the parent may be reading along."""
    _write(sys.stdout, f"refsprint: {message}\n")


def warn(message: str) -> None:
    """Write a line to standard error."""
    _write(sys.stderr, f"refsprint: {message}\n")


def exit_now(code: int, message: str = "") -> NoReturn:
    """End the process from below Python frames that must not get to catch anything.

    Like RASR, which finalizes Python on its way out, run the functions registered with atexit.
    """
    if message:
        warn(f"critical error: {message} [refsprint-exit]")
    atexit._run_exitfuncs()
    _flush()
    os._exit(code)


def abort(message: str) -> NoReturn:
    """End the process with SIGABRT, as a failed assertion in RASR does."""
    warn(f"assertion failed: {message} [refsprint-exit]")
    _flush()
    os.abort()


def abort_finalized(message: str) -> NoReturn:
    """As abort(), after Python's own end: the functions registered with atexit have run."""
    atexit._run_exitfuncs()
    abort(message)


def _write(stream: object, text: str) -> None:
    # The parent may have closed our output, and user code may have replaced the streams: neither is a
    # reason to fail.
    try:
        stream.write(text)  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError, UnicodeError):
        pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")
