"""A trainer whose forks create shared memory; each is killed before another line of that code.

It reports the number of lines.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, Optional

from support.internals import create_shared_memory, memory_reservation_file
from support.trainer import say


def create_until(line: int) -> None:
    """Create shared memory, but end before the line with this number is executed."""
    lines = 0

    def at_each_line(frame: FrameType, event: str, _: Any) -> Optional[Any]:
        nonlocal lines
        if frame.f_code.co_filename != memory_reservation_file():
            return None
        if event == "line":
            lines += 1
            if lines == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_each_line

    sys.settrace(at_each_line)
    create_shared_memory(1 << 20)


def is_killed_before(line: int) -> bool:
    """Return whether a fork was killed before this line, rather than complete."""
    fork = os.fork()
    if fork == 0:
        create_until(line)
        os._exit(0)
    return os.waitpid(fork, 0)[1] == signal.SIGKILL


line = 1
while is_killed_before(line):
    line += 1
say(line - 1)
