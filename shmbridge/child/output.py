"""What the child says on Sprint's standard output, which the parent hands to `logging`."""

from __future__ import annotations

import os
import sys
from typing import Any


class Verbosity:
    """How much is said. One per process: Sprint has one standard output.

    Attributes:
        quiet: nothing but warnings.
        verbose: a line for each call per segment.
    """

    quiet = False
    verbose = False


def say(*args: object, **kwargs: Any) -> None:
    """As the builtin print, but silent with `quiet:True` in the config string."""
    if not Verbosity.quiet:
        print(*args, **kwargs)


def report(text: str) -> None:
    """One line about a call of Sprint's that comes once or a few times."""
    say(f"shmbridge child[pid {os.getpid()}] {text}", flush=True)


def detail(text: str) -> None:
    """One line about a call that comes with each segment: only with `verbose:True`."""
    if Verbosity.verbose:
        report(text)


def warn(text: str) -> None:
    """One line that is said even with `quiet:True`."""
    print(f"shmbridge child[pid {os.getpid()}] warning: {text}", file=sys.stderr, flush=True)
