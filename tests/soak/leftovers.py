"""The resources of a process: descriptors, threads, children, mappings, names in /dev/shm, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import time
from pathlib import Path

_SELF = Path("/proc/self")


class Watch:
    """A snapshot of the resources in use, to compare with a later moment."""

    def __init__(self) -> None:
        self._before = _inventory()

    def left_behind(self, patience: float = 10.0) -> list[str]:
        """Return the objects that were created since and still exist after `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            gc.collect()
            left = [
                f"{kind}: {', '.join(sorted(now - self._before[kind]))}"
                for kind, now in _inventory().items()
                if now - self._before[kind]
            ]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.02)


def keep_no_gaps() -> None:
    """Have malloc map large blocks separately: `private_memory` then shows leaks, not gaps in the heap."""
    mmap_threshold = -3  # glibc's M_MMAP_THRESHOLD
    ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 16)


def private_memory() -> int:
    """Return the bytes of private memory of this process, after malloc has returned unused memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found = re.search(r"RssAnon:\s+(\d+) kB", (_SELF / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _inventory() -> dict[str, set[str]]:
    return {
        "descriptors": _descriptors(),
        "threads": set(os.listdir(_SELF / "task")),
        "children": _children(),
        "mappings of shared memory": set(
            re.findall(r"\S+ .*(/memfd:shmbridge.*)", (_SELF / "maps").read_text())
        ),
        # Names as posix_ipc generates them; other programs on this machine use other forms.
        "/dev/shm": {name for name in os.listdir("/dev/shm") if re.fullmatch("[a-z]+", name)},
    }


def _descriptors() -> set[str]:
    found = set()
    for number in os.listdir(_SELF / "fd"):
        try:
            found.add(f"{number} -> {os.readlink(_SELF / 'fd' / number)}")
        except OSError:  # the descriptor that listed the folder
            continue
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in (_SELF / "task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except OSError:  # the thread has just ended
            continue
    return found
