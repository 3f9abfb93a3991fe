"""The child's log lines on Sprint's standard output and error, which the parent passes to `logging`."""

from __future__ import annotations

import os
import sys
from typing import Any


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
    if not Verbosity.quiet:
        print(*args, **kwargs)


def log_call(text: str) -> None:
    """Print a line about a call that Sprint makes once or a few times."""
    say(f"shmbridge child[pid {os.getpid()}] {text}", flush=True)


def detail(text: str) -> None:
    """Print a line about a call for each segment, if the config string has `verbose:True`."""
    if Verbosity.verbose:
        log_call(text)


def warn(text: str) -> None:
    """Print a warning, even if the config string has `quiet:True`."""
    print(f"shmbridge child[pid {os.getpid()}] warning: {text}", file=sys.stderr, flush=True)
