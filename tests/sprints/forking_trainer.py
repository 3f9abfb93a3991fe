"""A trainer in which another thread forks right after a Sprint was spawned; the fork reports its open files.

Settings: `mark` and `report` are files. If `restart` is true, the fork comes when a Sprint is replaced.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np

import shmbridge
from support.internals import after_each_spawn, kill_child
from support.trainer import OPTIONS, SETTINGS, say

MARK, REPORT = Path(SETTINGS["mark"]), Path(SETTINGS["report"])
forked = threading.Event()


def open_files() -> list[str]:
    """Return the targets of this process's descriptors."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return found


def fork() -> None:
    """Fork; the fork writes the report."""
    if os.fork() == 0:
        REPORT.write_text(json.dumps(open_files()))
        os._exit(0)
    forked.set()


def fork_if_marked(_pid: int) -> None:
    """Fork in another thread, the first time that the mark is there."""
    if MARK.exists():
        MARK.unlink()
        threading.Thread(target=fork).start()
        forked.wait(2)  # times out if the pool holds forks off until the Sprint is complete


def start() -> shmbridge.SprintInstancePool:
    """Start the pool, with the mark at the spawn that the settings ask for."""
    if not SETTINGS["restart"]:
        MARK.touch()
        return shmbridge.SprintInstancePool(**OPTIONS)
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    kill_child(pool)
    MARK.touch()
    pool.claim("c/s1", 3, 4).abort()  # replaces the child
    return pool


before = open_files()
with after_each_spawn(fork_if_marked):
    pool = start()
assert forked.wait(60)
os.wait()
in_fork = json.loads(REPORT.read_text())
with pool:
    during = open_files()
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), np.array([3]), ["c/s1"])
say([loss.tolist(), before, during, in_fork])
