"""The doctor's checks of this machine."""

from __future__ import annotations

import os
import platform
import resource
import socket
import threading
import time
from collections.abc import Iterator

from shmbridge.available_memory import available_memory
from shmbridge.control_group import memory_limits
from shmbridge.errors import ShmbridgeError
from shmbridge.units import format_bytes

from .checks import FAILED, OK, WARNING, Check, check

__all__ = ["check_machine"]

_PER_CHILD = 9  # file descriptors of the trainer while it starts a child
_OTHERS = 64  # file descriptors that a trainer may have open for other purposes
_WAKE_TIMEOUT = 10.0  # seconds


def check_machine(children: int, ring_size: int) -> Iterator[Check]:
    """Run all checks that do not start Sprint.

    Args:
        children: the number of children to plan for.
        ring_size: the option to plan for, in bytes.
    """
    yield check(
        "Python and system",
        platform.system() == "Linux",
        f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}",
        "shmbridge requires Linux: futexes, memfds, pidfds",
    )
    native = _native()
    yield native
    yield _shared_memory(children, ring_size)
    yield from _memory_limit(children * 2 * ring_size)
    if native.status == OK:
        yield _shared_object()
        yield _doorbell()
        yield _stats_socket()
    yield _pidfd()
    yield _descriptors(children)
    cores = len(os.sched_getaffinity(0))
    yield check(
        "cores",
        cores > children,
        f"{cores} for this process and its {children} children",
        "with one core no process spins, and each exchange costs context switches"
        if cores == 1
        else "processes that share a core wait for each other; use fewer children than cores",
        WARNING,
    )


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
            "build it for this Python: in the clone of shmbridge, run pip install --force-reinstall -e .",
        )
    return Check("C part", OK, f"ABI {_native.lib.SHMB_ABI}, numpy {np.__version__}, {_native.__file__}")


def _shared_memory(children: int, ring_size: int) -> Check:
    name = "shared memory"
    needed = children * 2 * ring_size
    available = available_memory()
    if available is None:
        return Check(name, WARNING, "the system does not report its free memory", "mount /proc")
    return check(
        name,
        needed < available.size / 2,
        f"{format_bytes(available.size)} free {available.place}; {children} children need "
        f"{format_bytes(needed)}",
        f"{available.remedy}, or lower ring_size (now {format_bytes(ring_size)}; two for a child) or "
        "the number of children: the kernel kills a process when no memory is left",
        WARNING if needed < available.size else FAILED,
    )


def _memory_limit(needed: int) -> Iterator[Check]:
    """Compare what the children need with the tightest limit of this process's control groups, if any."""
    tightest = min(memory_limits(), key=lambda found: found.limit - found.used, default=None)
    if tightest is None:
        return
    group, limit, used = tightest
    yield check(
        "memory limit",
        needed < min(limit / 2, limit - used),
        f"{format_bytes(limit)} for the control group {group}, of which {format_bytes(used)} are used; "
        f"shared memory needs {format_bytes(needed)}",
        "raise the limit (docker run --memory=…, sbatch --mem=…), or lower ring_size or the number of "
        "children: the kernel kills a process when the limit is reached",
        WARNING if needed < limit else FAILED,
    )


def _shared_object() -> Check:
    from shmbridge.memory import create_shared_memory

    name = "shared-memory object"
    try:
        os.close(create_shared_memory(1 << 16))
    except ShmbridgeError as error:
        return Check(
            name, FAILED, str(error), "allow memfd_create in this sandbox, or mount a tmpfs at /dev/shm"
        )
    return Check(name, OK, "created, reserved, sealed")


def _doorbell() -> Check:
    """Wake a thread that sleeps at a doorbell in shared memory."""
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
    time.sleep(0.05)  # a poke before the thread sleeps is not lost; only the measured time would be wrong
    begin = time.perf_counter()
    doorbell.poke()
    thread.join()
    return check(
        "doorbell (futex)",
        bool(woken),
        f"a sleeping thread woke after {1e6 * (woken[0] - begin):.0f} µs"
        if woken
        else f"a sleeping thread did not wake within {_WAKE_TIMEOUT:.0f} s",
        "the kernel, or a sandbox around this process, does not support futexes in shared memory",
    )


def _pidfd() -> Check:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Check(
            "pidfd",
            WARNING,
            f"{error.strerror}; kernel {platform.release()}",
            "use Linux 5.3 or later; without pidfds the trainer needs one more thread for each child, and a "
            "child detects the trainer's end only by its pipe",
        )
    return Check("pidfd", OK, f"kernel {platform.release()}")


def _descriptors(children: int) -> Check:
    soft, hard = (
        "unlimited" if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    needed = _OTHERS + children * _PER_CHILD
    return check(
        "open files",
        isinstance(soft, str) or soft >= needed,
        f"ulimit -n is {soft} (hard limit: {hard}); a trainer with {children} children needs {needed}",
        f"run ulimit -n {needed} before the trainer starts",
    )


def _stats_socket() -> Check:
    from shmbridge.parent.stats_socket import open_socket

    name = "socket of `shmbridge stats`"
    try:
        listener, file = open_socket()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.connect(f"/proc/self/fd/{file}")
        finally:
            os.close(listener)
            os.close(file)
    except OSError as error:
        return Check(name, WARNING, str(error), "pools work, but `shmbridge stats` cannot find them")
    return Check(name, OK, "a socket without a name works")
