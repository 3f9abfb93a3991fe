"""A trainer that raises a resource limit until a pool fits, and reports each limit with its error.

The setting `resource` is a key of LIMITS.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import threading
from collections.abc import Callable, Iterable

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say


def count_descriptors() -> int:
    """Return the number of open descriptors."""
    return len(os.listdir("/proc/self/fd"))


def address_space() -> int:
    """Return the size of the address space in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE


def children() -> list[str]:
    """Return the ids of the child processes."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def run_pool() -> None:
    """Start a pool, run a batch, and close the pool."""
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        posteriors = np.ones((3, 2, 4), np.float32)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, [3, 3], ["c/s1", "c/s2"])
        assert loss.tolist() == [1.5, 1.5]
        assert (error_signal == 2).all()


def attempt() -> str:
    """Run a pool, and return "room" or the error."""
    try:
        run_pool()
    except shmbridge.ResourceError as error:
        return str(error)
    except shmbridge.PeerGoneError as error:
        return "Sprint: " + " ".join(error.last_output)
    except MemoryError as error:
        return f"MemoryError: {error}"
    return "room"


LIMITS: dict[str, tuple[int, Callable[[], Iterable[int]]]] = {
    "descriptors": (
        resource.RLIMIT_NOFILE,
        lambda: range(count_descriptors() - 1, count_descriptors() + 60),
    ),
    "address space": (
        resource.RLIMIT_AS,
        lambda: range(address_space(), address_space() + (400 << 20), 4 << 20),
    ),
    "processes": (resource.RLIMIT_NPROC, lambda: range(1, 30)),
}

kind, limits = LIMITS[SETTINGS["resource"]]
tried = limits()
run_pool()  # imports all modules
unlimited = resource.getrlimit(kind)
before = count_descriptors(), threading.active_count()
for limit in tried:
    resource.setrlimit(kind, (limit, unlimited[1]))
    try:
        message = attempt()
    finally:
        resource.setrlimit(kind, unlimited)
    gc.collect()
    say([limit, message])
    # A failed attempt changes none of the resources in use.
    assert (count_descriptors(), threading.active_count(), children()) == (*before, []), message
    if message == "room":
        break
run_pool()
say([None, "room"])
