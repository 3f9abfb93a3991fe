"""Describe the machine and its load."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("numpy", "cffi", "posix-ipc", "returnn", "pyzmq", "iceoryx2", "matplotlib", "rich")


def describe() -> dict[str, Any]:
    """Return the machine, the system and the versions."""
    import shmbridge

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": sys.version.split()[0],
        "shmbridge": shmbridge.__version__,
        "commit": _commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "transparent_hugepage": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "transparent_hugepage_shmem": _read("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
    }


class Load:
    """The load of other processes, from the creation of this object until `describe`."""

    def __init__(self) -> None:
        self._before = _cpu_ticks()
        self._own_before = _own_seconds()
        self._load_before = os.getloadavg()
        self._start = time.time()

    def describe(self) -> dict[str, Any]:
        """Return the load averages, and the share of all cores that other processes and machines used.

        Children of this process do not count as others, once they have ended.
        """
        after = _cpu_ticks()
        total, busy, stolen = (new - old for new, old in zip(after, self._before))
        seconds = total / os.sysconf("SC_CLK_TCK")
        own = _own_seconds() - self._own_before
        others = busy / os.sysconf("SC_CLK_TCK") - own
        return {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "duration_seconds": time.time() - self._start,
            "load_before": list(self._load_before),
            "load_after": list(os.getloadavg()),
            "used_by_others": max(0.0, others / seconds) if seconds else 0.0,
            "stolen": stolen / total if total else 0.0,
        }


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpu_ticks() -> tuple[int, int, int]:
    """Return the ticks of all cores since boot: (all, busy, stolen by the hypervisor)."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
    busy = user + nice + system + irq + softirq
    return busy + idle + iowait + steal, busy, steal


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Return the checkout's commit, with a + if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 - any git on PATH
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"
