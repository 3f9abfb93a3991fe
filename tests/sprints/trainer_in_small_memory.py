"""A trainer with little memory; its Sprint is deadly.py. It reports each ResourceError.

Settings: `case` is a key of CASES; a file in `folder` kills Sprint at c/s1. `meminfo` is the file that
is mounted as /proc/meminfo. Without it, memfd_create fails, and the shared memory is in a small /dev/shm.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import shmbridge
from support.internals import kill_child
from support.trainer import OPTIONS, SETTINGS, say
from support.without_memfd import refuse_memfd

Pool = shmbridge.SprintInstancePool
MEMINFO = SETTINGS["meminfo"]
FILLER = "/dev/shm/filler"  # in a mount namespace of this process


def check(pool: Pool) -> None:
    """Run a batch, and check the answers."""
    posteriors = np.ones((3, 2, 4), np.float32)
    loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, [3, 3], ["c/s1", "c/s2"])
    assert loss.tolist() == [12, 12]
    assert (error_signal == 2).all()


def refused(call: Callable[[], object]) -> None:
    """Make a call, and report its ResourceError."""
    try:
        call()
        say("no error")
    except shmbridge.ResourceError as error:
        say(str(error))


def fill() -> None:
    """Have other processes use all memory."""
    if MEMINFO:
        write_meminfo(0)
        return
    status = os.statvfs("/dev/shm")
    with open(FILLER, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)


def empty() -> None:
    """Have other processes free their memory."""
    if MEMINFO:
        write_meminfo(64 << 20)
    else:
        os.unlink(FILLER)


def write_meminfo(size: int) -> None:
    """Change the machine's available memory, in bytes."""
    Path(MEMINFO).write_text(f"MemTotal:       100000000 kB\nMemAvailable:    {size >> 10} kB\n")


def plan_death() -> None:
    """Have Sprint die at its next segment c/s1."""
    (Path(SETTINGS["folder"]) / "c-s1").write_text("kill 1")


def held_error_signal(pool: Pool) -> Any:
    """Return an error signal that keeps the memory of its child: a new child needs memory of its own."""
    claim = pool.claim("c/s1", 3, 4)
    claim.posteriors[:] = 1
    return claim.send().result().error_signal


def too_large() -> None:
    """Start a pool whose rings do not fit."""
    refused(lambda: Pool(**{**OPTIONS, "ring_size": 128 << 20}))
    with Pool(**OPTIONS) as pool:
        check(pool)


def too_many() -> None:
    """Start a pool whose last child does not fit."""
    refused(lambda: Pool(**{**OPTIONS, "num_instances": 4}))
    with Pool(**{**OPTIONS, "num_instances": 3}) as pool:
        check(pool)


def filled_before_restart() -> None:
    """Kill a child when the memory is full."""
    with Pool(**OPTIONS) as pool:
        error_signal = held_error_signal(pool)
        fill()
        kill_child(pool)
        for _ in range(2):
            refused(lambda: check(pool))
        assert (error_signal == 2).all()
        if MEMINFO:
            empty()
        else:
            del error_signal
        check(pool)


def filled_before_retry() -> None:
    """Let a child die in a batch when the memory is full."""
    with Pool(**OPTIONS, max_restarts=1) as pool:
        error_signal = held_error_signal(pool)
        fill()
        plan_death()
        try:
            check(pool)
        except shmbridge.PeerGoneError as error:
            signal_name = error.signal_name
        assert signal_name == "SIGKILL"
        refused(lambda: check(pool))
        empty()
        check(pool)
        assert (error_signal == 2).all()


def room_for_one() -> None:
    """Restart a child if only one fits."""
    with Pool(**{**OPTIONS, "ring_size": 20 << 20}, max_restarts=1) as pool:
        check(pool)
        for _ in range(3):
            plan_death()
            check(pool)
        kill_child(pool)
        check(pool)
        assert pool.stats().restarts == 4


CASES: dict[str, Callable[[], None]] = {
    "the pool's rings do not fit": too_large,
    "the last child does not fit": too_many,
    "other processes fill it before the restart of a child": filled_before_restart,
    "other processes fill it before a segment is resent": filled_before_retry,
    "there is room for one child only, which is restarted": room_for_one,
}
if MEMINFO:
    empty()
else:
    refuse_memfd(errno.ENOSYS)
CASES[SETTINGS["case"]]()
