"""Checks that nothing is left behind: no shared memory, descriptor, thread, process or temporary file."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "SHMBRIDGE_TEST"
SHM = Path("/dev/shm")


def is_alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def marked_processes(mark: str) -> list[int]:
    """Return the living processes that have this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0") and is_alive(
                    int(entry)
                ):
                    found.append(int(entry))
    return found


def _names_in_shm() -> set[str]:
    # Names as posix_ipc generates them. Other programs on this machine use other forms.
    return {name for name in os.listdir(SHM) if re.fullmatch("[a-z]+", name)}


def _descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _watchers() -> int:
    return sum("shmbridge" in thread.name for thread in threading.enumerate())


class Watch:
    """A record of shared memory, descriptors and threads, to compare with a later moment."""

    def __init__(self) -> None:
        self.shm = _names_in_shm()
        self.descriptors = _descriptors()
        self.watchers = _watchers()

    def left_behind(self) -> list[str]:
        """Return a description of each object that did not exist before."""
        left = [f"/dev/shm/{name}" for name in _names_in_shm() - self.shm]
        descriptors = _descriptors()
        if len(descriptors) > len(self.descriptors):
            left += [f"{n}: {to}" for n, to in descriptors.items() if n not in self.descriptors]
        if _watchers() > self.watchers:
            left.append("a thread of shmbridge")
        return left


@contextlib.contextmanager
def nothing_left_behind(mark: str, temporary: Path) -> Iterator[None]:
    """Check at the end that nothing is left: see Watch, processes with the mark, and temporary files."""
    watch = Watch()
    yield
    gc.collect()
    # Names of other programs may appear in /dev/shm for a moment.
    deadline = time.monotonic() + 10
    while (left := watch.left_behind() + marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left
    assert os.listdir(temporary) == []
