"""How much memory this process can still allocate, according to the machine and to its control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from .control_group import memory_limits
from .errors import ResourceError

__all__ = ["AvailableMemory", "available_memory", "require_memory"]

_MEMINFO = Path("/proc/meminfo")


class AvailableMemory(NamedTuple):
    """What can still be allocated.

    Attributes:
        size: in bytes.
        place: what limits it, for messages: "on this machine", or "in the control group …".
        remedy: how to get more.
    """

    size: int
    place: str
    remedy: str


def available_memory() -> Optional[AvailableMemory]:
    """Return the tightest limit: the machine's or a control group's. None if the system reports none."""
    return min([*_of_machine(), *_of_control_groups()], default=None)


def require_memory(size: int, purpose: str = "") -> None:
    """Raise ResourceError if fewer than `size` bytes can be allocated.

    The kernel does not refuse shared memory that does not fit: it kills a process.

    Args:
        size: in bytes.
        purpose: for the message, with a blank before it.
    """
    available = available_memory()
    if available is not None and available.size < size:
        raise ResourceError(
            f"{size} bytes ({size / 1e6:.1f} MB) of shared memory are needed{purpose}, "
            f"{available.size} bytes are free {available.place}: "
            f"lower ring_size or num_instances, or {available.remedy} [shared-memory]"
        )


def _of_machine() -> Iterator[AvailableMemory]:
    try:
        rows = [line.split() for line in _MEMINFO.read_text().splitlines()]
    except OSError:
        return
    values = {row[0]: 1024 * int(row[1]) for row in rows if len(row) > 2}
    if "MemAvailable:" in values:
        size = values["MemAvailable:"] + values.get("SwapFree:", 0)
        yield AvailableMemory(size, "on this machine", "use a machine with more memory")


def _of_control_groups() -> Iterator[AvailableMemory]:
    for group, limit, used in memory_limits():
        remedy = "raise its limit (docker run --memory=…, sbatch --mem=…)"
        yield AvailableMemory(max(limit - used, 0), f"in the control group {group}", remedy)
