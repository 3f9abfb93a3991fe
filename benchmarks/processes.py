"""What /proc says about a process: its children, CPU time, switches and memory."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> set[int]:
    """The pids of its direct children."""
    children = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                status = (path / "stat").read_text()
            except OSError:  # it has just ended
                continue
            # The command's name, in parentheses, may hold anything.
            if int(status.rpartition(")")[2].split()[1]) == pid:
                children.add(int(path.name))
    return children


def cpu_seconds(pid: int) -> float:
    """CPU time that all its threads have used, to the nanosecond where the kernel counts so."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def switches(pid: int) -> int:
    """How often its threads have been put to sleep or set aside: one that polls keeps counting up."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def memory(pid: int) -> dict[str, int]:
    """Bytes: `private` is resident and its own, `shared` resident and shared, `objects` what it has mapped.

    `objects` is the size of the shared-memory objects, whether their pages are resident or not.
    """
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem"):
            fields[name] = int(value.split()[0]) * 1024
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith(("/dev/shm/", "/memfd:")):  # noqa: S108 - reads, does not write
            start, _, end = words[0].partition("-")
            sizes[words[4]] = sizes.get(words[4], 0) + int(end, 16) - int(start, 16)
    return {"private": fields["RssAnon"], "shared": fields["RssShmem"], "objects": sum(sizes.values())}
