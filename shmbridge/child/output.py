"""The child's log lines on Sprint's standard output and error, which the parent passes to `logging`.

A line that cannot be written must not end Sprint. So no function here raises if the output is closed, full or
broken, and characters that it cannot encode appear as escapes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, Optional, TextIO

from ..protocol import CHILD_LINE


class Verbosity:
    """How much the child prints. One setting per process, because Sprint has one standard output.

    Attributes:
        quiet: print nothing but warnings.
        verbose: print a line for each call of each segment.
    """

    quiet = False
    verbose = False


def say(*args: object, **kwargs: Any) -> None:
    """Print like the builtin print, but nothing if the config string has `quiet:True`."""
    if Verbosity.quiet:
        return
    if kwargs.get("file") is None:
        text = io.StringIO()
        print(*args, **{**kwargs, "file": text})
        _write(sys.stdout, text.getvalue(), flush=bool(kwargs.get("flush")))
    else:
        print(*args, **kwargs)


def log_call(text: str) -> None:
    """Print a line about a call that Sprint makes once or a few times."""
    say(f"{CHILD_LINE}[pid {os.getpid()}] {text}", flush=True)


def detail(text: str) -> None:
    """Print a line about a call for each segment, if the config string has `verbose:True`."""
    if Verbosity.verbose:
        log_call(text)


def warn(text: str) -> None:
    """Print a warning, even if the config string has `quiet:True`."""
    _write(sys.stderr, f"{CHILD_LINE}[pid {os.getpid()}] warning: {text}\n", flush=True)


def _write(stream: Optional[TextIO], text: str, *, flush: bool) -> None:
    """Write to standard output or error; None is one that was closed when Python started."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):  # ValueError: Python has closed it
        try:
            stream.write(text)
        except UnicodeEncodeError:  # for instance in an embedded Python with LC_ALL=C
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        if flush:
            stream.flush()
