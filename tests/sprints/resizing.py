"""A Sprint that tries each way to change the size of the shared memory, and notes the results in SEEN."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Any

import prelude
from prelude import CONFIG, SEEN, init, save_seen

F_ADD_SEALS, F_SEAL_FUTURE_WRITE = 1033, 16
fields = dict(item.split(":") for item in CONFIG.split(","))
copies = [os.dup(int(fields[name])) for name in ("shm_fd", "bell_fd")]  # init closes its own


def reopen(descriptor: int) -> None:
    """Open the file again, and truncate it."""
    with open(f"/proc/self/fd/{descriptor}", "wb"):
        pass


CHANGES: dict[str, Callable[[int], object]] = {
    "shorten": lambda fd: os.ftruncate(fd, 0),
    "shorten by a page": lambda fd: os.ftruncate(fd, os.fstat(fd).st_size - 4096),
    "lengthen": lambda fd: os.ftruncate(fd, 1 << 30),
    "reopen": reopen,
    "another seal": lambda fd: fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE),
}


def attempt(change: Callable[[int], object], descriptor: int) -> str:
    """Return "done", or the type of the error."""
    try:
        change(descriptor)
    except OSError as error:
        return type(error).__name__
    return "done"


def callback(command: str, **arguments: Any) -> Any:
    """Try the changes, and answer as prelude does."""
    if command == "calculate_criterion":
        for what, change in CHANGES.items():
            SEEN[what] = [attempt(change, descriptor) for descriptor in copies]
    return prelude.callback(command, **arguments)


init().run_control_loop(callback=callback)
save_seen()
