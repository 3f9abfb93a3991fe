"""Run a module of this package in another process, as a child that is not Sprint."""

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
    """Run `python -m module arguments` during the context.

    Args:
        module: full name of the module.
        arguments: converted with str.
        descriptors: file descriptors to inherit. The caller still owns them.

    Yields:
        The pid.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(descriptors),
        cwd=ROOT,
        # Ctrl-C interrupts only the benchmark, which ends its children.
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
    """Let the kernel kill this process when its parent ends.

    Args:
        parent: pid of the parent; None in a process that run_module started.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != (parent or int(os.environ[_PARENT_VARIABLE])):  # the parent has ended already
        sys.exit(1)


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Yield a pipe (read end, write end), and close it."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for descriptor in ends:
            os.close(descriptor)
