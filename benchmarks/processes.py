"""Read a process's children, CPU time, context switches and memory from /proc."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> set[int]:
    """Return the pids of the direct children."""
    children = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                status = (path / "stat").read_text()
            except OSError:  # the process has just ended
                continue
            # The command's name, in parentheses, may contain any character.
            if int(status.rpartition(")")[2].split()[1]) == pid:
                children.add(int(path.name))
    return children


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def switches(pid: int) -> int:
    """Return the number of context switches of all threads, which grows if one of them polls."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def memory(pid: int) -> dict[str, int]:
    """Return bytes of memory: `private` and `shared` are resident, `objects` is mapped.

    `objects` is the size of the mapped shared-memory objects, whether their pages are resident or not.
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
