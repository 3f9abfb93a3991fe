"""Children that are not Sprint: a module of this package in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_EXIT_TIMEOUT = 5.0
_PARENT_VARIABLE = "BENCH_PARENT"  # its pid


@contextlib.contextmanager
def run_module(module: str, *arguments: object, descriptors: Sequence[int] = ()) -> Iterator[int]:
    """Run `python -m module arguments` for as long as the context lasts.

    Args:
        module: its full name.
        arguments: strings, or what str makes strings of.
        descriptors: to inherit. They stay the caller's.

    Yields:
        The pid.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(descriptors),
        cwd=ROOT,
        # Ctrl-C is for the benchmark, which ends its children itself.
        start_new_session=True,
        env={**os.environ, _PARENT_VARIABLE: str(os.getpid())},
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent(parent: Optional[int] = None) -> None:
    """In a child: be ended by the kernel when the parent ends in whatever way.

    Args:
        parent: its pid; None in what run_module has started.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != (parent or int(os.environ[_PARENT_VARIABLE])):  # it has ended before
        sys.exit(1)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, closed at the end of the context: (read end, write end)."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for descriptor in ends:
            os.close(descriptor)
