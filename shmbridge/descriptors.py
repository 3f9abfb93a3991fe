"""Descriptors that are never 0, 1 or 2.

A daemon may have closed these. A child gets its own ones there, in the place of what has the number, and
any code that prints would write to it.
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["above_standard", "pipe"]

_LOWEST = 3


def above_standard(descriptor: int) -> int:
    """Return the descriptor; if it is that of standard input, output or error, replace it by another one."""
    if descriptor >= _LOWEST:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    finally:
        os.close(descriptor)


def pipe() -> tuple[int, int]:
    """Open a pipe; return its read end and its write end."""
    read_end, write_end = os.pipe()
    try:
        read_end = above_standard(read_end)
    except BaseException:
        os.close(write_end)
        raise
    try:
        return read_end, above_standard(write_end)
    except BaseException:
        os.close(read_end)
        raise
