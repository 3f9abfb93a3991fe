"""The memory limits of the control groups that this process belongs to, in cgroup v1 and v2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

__all__ = ["MemoryLimit", "memory_limits"]

_NO_LIMIT = 1 << 60  # v1 has a number near 2**63 instead of "max"


class _Version(NamedTuple):
    """The file system of a version, and its files."""

    file_system: str
    limit: str
    used: str
    droppable: str  # in memory.stat: the pages of files that the kernel can drop


_V1 = _Version("cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Version("cgroup2", "memory.max", "memory.current", "inactive_file")


class MemoryLimit(NamedTuple):
    """The memory limit of one control group.

    Attributes:
        group: the folder of the group.
        limit: bytes that its processes may use together.
        used: bytes that they use now, without cached files that the kernel can drop.
    """

    group: str
    limit: int
    used: int


def memory_limits(proc: Path = Path("/proc/self")) -> list[MemoryLimit]:
    """Return the limits of this process's group and of the groups above it, if they have one.

    Args:
        proc: the folder of the process in /proc.
    """
    return [found for folder, version in _folders(proc) if (found := _read(folder, version)) is not None]


def _folders(proc: Path) -> Iterator[tuple[Path, _Version]]:
    """Yield the folder of this process's group, and those above it up to the root of the file system."""
    for line in _lines(proc / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            version = _V2
        elif "memory" in controllers.split(","):
            version = _V1
        else:
            continue
        mounted = _mount(proc, version)
        if mounted is None:
            continue
        root, top = mounted
        # In some containers the group is outside of what is mounted, whose root is all that can be read then.
        inside = f"{group}/".startswith(f"{root}/") and ".." not in group.split("/")
        folder = top / group[len(root) :].lstrip("/") if inside else top
        yield from ((each, version) for each in (folder, *folder.parents) if each.is_relative_to(top))


def _mount(proc: Path, version: _Version) -> Optional[tuple[str, Path]]:
    """Return the group at the root of the mounted file system, and where it is mounted."""
    for line in _lines(proc / "mountinfo"):
        mount, _, system = line.partition(" - ")
        fields, (file_system, _, options) = mount.split(" "), system.split(" ", 2)
        if file_system == version.file_system and (version is _V2 or "memory" in options.split(",")):
            return _unescaped(fields[3]).rstrip("/"), Path(_unescaped(fields[4]))
    return None


def _read(folder: Path, version: _Version) -> Optional[MemoryLimit]:
    try:
        limit = int((folder / version.limit).read_text())
        used = int((folder / version.used).read_text())
    except (OSError, ValueError):  # the group has no memory controller, or "max" for its limit
        return None
    droppable = dict(line.partition(" ")[::2] for line in _lines(folder / "memory.stat"))
    used -= int(droppable.get(version.droppable, 0))
    return MemoryLimit(str(folder), limit, used) if limit < _NO_LIMIT else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
