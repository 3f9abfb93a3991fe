"""What this machine has of what shmbridge needs."""

from __future__ import annotations

import os
import platform
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from shmbridge.errors import ShmbridgeError
from shmbridge.units import format_bytes

from .checks import FAILED, OK, WARNING, Check

__all__ = ["check_machine"]

_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory; only asked for its size
_PER_CHILD = 9  # descriptors of this process while it starts one
_OTHERS = 64  # descriptors that a trainer has open for other things, at least
_WAKE_TIMEOUT = 10.0  # seconds


def check_machine(children: int, ring_size: int) -> Iterator[Check]:
    """All checks that need no Sprint.

    Args:
        children: how many there are to be.
        ring_size: the option, bytes.
    """
    yield _python()
    native = _native()
    yield native
    yield _shared_memory(children, ring_size)
    limit = _memory_limit()
    if limit is not None:
        yield _limited_memory(limit, children, ring_size)
    if native.status == OK:
        yield _object()
        yield _doorbell()
    yield _pidfd()
    yield _descriptors(children)
    yield _cores(children)
    yield _abstract_socket()


def _python() -> Check:
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    if platform.system() != "Linux":
        return Check("Python and system", FAILED, found, "shmbridge needs Linux: futexes, pidfds, /dev/shm")
    return Check("Python and system", OK, found)


def _native() -> Check:
    try:
        import numpy as np

        from shmbridge import _native, _ring

        target = np.zeros((1, 1), np.float32)
        _ring.copy(target, np.ones((1, 1)), _native.lib.SHMB_FLOAT64, True, False)
    except Exception as error:
        return Check(
            "C part",
            FAILED,
            f"{type(error).__name__}: {error}",
            "install shmbridge anew with this Python (pip install --force-reinstall shmbridge); "
            "a checkout is built by pip install -e .",
        )
    return Check("C part", OK, f"ABI {_native.lib.SHMB_ABI}, numpy {np.__version__}, {_native.__file__}")


def _needed(children: int, ring_size: int) -> int:
    return children * 2 * ring_size


def _shared_memory(children: int, ring_size: int) -> Check:
    name, needed = "shared memory", _needed(children, ring_size)
    try:
        status = os.statvfs(_SHM)
    except OSError as error:
        return Check(name, FAILED, f"{_SHM}: {error.strerror}", f"mount -t tmpfs tmpfs {_SHM}")
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    space = f"{format_bytes(free)} free of {format_bytes(total)}"
    found = f"{_SHM}: {space}; {children} children need {format_bytes(needed)}"
    if free >= needed:
        return Check(name, OK, found)
    return Check(
        name,
        FAILED,
        found,
        f"enlarge it (docker run --shm-size={needed + total - free}, or "
        f"mount -o remount,size={needed + total - free} {_SHM}), or lower ring_size "
        f"(now {format_bytes(ring_size)}; two rings a child), or have fewer children",
    )


def _memory_limit() -> Optional[int]:
    """Of this process' cgroup, bytes; None where there is none that can be read."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text())
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
        return limit if limit < 1 << 60 else None
    return None


def _limited_memory(limit: int, children: int, ring_size: int) -> Check:
    name, needed = "memory limit", _needed(children, ring_size)
    found = (
        f"the control group has {format_bytes(limit)}; shared memory counts, of which "
        f"{format_bytes(needed)} are needed"
    )
    if needed < limit / 2:
        return Check(name, OK, found)
    return Check(
        name,
        WARNING if needed < limit else FAILED,
        found,
        "raise the limit (docker run --memory=…), or lower ring_size or the number of children: the kernel "
        "kills a process where the limit is reached",
    )


def _object() -> Check:
    from shmbridge.memory import create_shared_memory

    name = "shared-memory object"
    try:
        os.close(create_shared_memory(1 << 16))
    except ShmbridgeError as error:
        return Check(name, FAILED, str(error), f"see who may write to {_SHM} (ls -ld {_SHM}: drwxrwxrwt)")
    return Check(name, OK, "created, reserved, unlinked")


def _doorbell() -> Check:
    """A thread sleeps at a doorbell in shared memory, and is woken."""
    from shmbridge.doorbell import Doorbell, WaitList
    from shmbridge.memory import PAGE, Memory, create_shared_memory

    descriptor = create_shared_memory(PAGE)
    try:
        doorbell = Doorbell(Memory(descriptor, PAGE), create=True)
    finally:
        os.close(descriptor)
    woken = []

    def sleep() -> None:
        if doorbell.wait(WaitList([]), timeout=_WAKE_TIMEOUT, max_spin_ns=0):
            woken.append(time.perf_counter())

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.05)  # where it does not sleep yet, the poke is kept for it, and only the figure is off
    begin = time.perf_counter()
    doorbell.poke()
    thread.join()
    if not woken:
        return Check(
            "doorbell (futex)",
            FAILED,
            f"a sleeper was not woken within {_WAKE_TIMEOUT:.0f} s",
            "the kernel, or a sandbox around this process, does not offer futexes in shared memory",
        )
    return Check("doorbell (futex)", OK, f"a sleeper was awake after {1e6 * (woken[0] - begin):.0f} µs")


def _pidfd() -> Check:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Check(
            "pidfd",
            WARNING,
            f"{error.strerror}; kernel {platform.release()}",
            "Linux 5.3 has it. Without it each child takes a thread more here, and a child notices the "
            "trainer's end by its pipe only",
        )
    return Check("pidfd", OK, f"kernel {platform.release()}")


def _descriptors(children: int) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OTHERS + children * _PER_CHILD
    found = f"ulimit -n is {_limit(soft)} (hard: {_limit(hard)}); {children} children and a trainer: {needed}"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return Check("open files", OK, found)
    return Check("open files", FAILED, found, f"ulimit -n {needed} before the trainer is started")


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _cores(children: int) -> Check:
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} for this process, and for its {children} children"
    if cores == 1:
        return Check(
            "cores",
            WARNING,
            found,
            "with one core nobody spins, and each exchange waits until the other process is switched to",
        )
    if cores <= children:
        return Check("cores", WARNING, found, "with fewer cores than processes, children wait for each other")
    return Check("cores", OK, found)


def _abstract_socket() -> Check:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"\0shmbridge-doctor/{os.getpid()}")
            listener.listen()
    except OSError as error:
        return Check(
            "socket of `shmbridge stats`",
            WARNING,
            str(error),
            "pools work without it; `shmbridge stats` will not find them",
        )
    return Check("socket of `shmbridge stats`", OK, "abstract unix sockets work")
