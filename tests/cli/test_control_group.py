"""The doctor compares the children's memory with the limits of its own control group, in cgroup v1 and v2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmbridge.control_group import MemoryLimit, memory_limits

IN_GROUP = """
import sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
from shmbridge.cli.__main__ import main
sys.exit(main(sys.argv[2:]))
"""
LIMIT = 256 << 20


def own_v1_group() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory", group.lstrip("/"))
    pytest.skip("the memory controller is not that of cgroup v1")


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group below this process's, with a memory limit."""
    group = own_v1_group() / f"shmbridge-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be created: {error.strerror}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
        yield group
    finally:
        with contextlib.suppress(FileNotFoundError):
            group.rmdir()


@pytest.mark.parametrize(
    ("ring_size", "status"), [(1 << 20, "ok"), (40 << 20, "warning"), (128 << 20, "failed")]
)
def test_the_doctor_reads_the_limit_of_its_own_control_group(run, group, ring_size, status):
    done = run("doctor", "--json", "--ring-size", ring_size, python=("-c", IN_GROUP, str(group)))
    (check,) = (check for check in done.json["checks"] if check["name"] == "memory limit")
    assert check["status"] == status
    assert str(group) in check["found"]
    assert "268.4 MB" in check["found"]


class Proc:
    """A folder like that of a process in /proc, and the control groups of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mounts: list[str] = []

    def mount(self, root: str, where: str, system: str) -> Path:
        top = self.path / where
        top.mkdir()
        escaped = str(top).replace(" ", r"\040")
        self._mounts.append(f"36 35 98:0 {root} {escaped} rw,relatime shared:9 - {system}")
        return top

    def limits(self, groups: str) -> list[MemoryLimit]:
        (self.path / "cgroup").write_text(groups)
        (self.path / "mountinfo").write_text(
            "\n".join(["1 0 8:1 / / rw - ext4 /dev/sda rw", *self._mounts, ""])
        )
        return memory_limits(self.path)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def write_v2(folder: Path, limit: object, used: int = 100, inactive: int = 30) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def write_v1(folder: Path, limit: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text("100\n")
    (folder / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 40\n")


def test_v2_has_the_limits_of_the_own_group_and_of_those_above_it(proc):
    top = proc.mount("/", "a folder", "cgroup2 cgroup2 rw,nsdelegate")
    write_v2(top / "user.slice" / "job" / "step", "max")
    write_v2(top / "user.slice" / "job", 5000)
    write_v2(top / "user.slice", 9000, used=50)
    write_v2(top / "other.slice", 1)
    assert proc.limits("0::/user.slice/job/step\n") == [
        MemoryLimit(str(top / "user.slice" / "job"), 5000, 70),
        MemoryLimit(str(top / "user.slice"), 9000, 20),
    ]


def test_v1_has_the_limits_of_the_memory_controller(proc):
    proc.mount("/", "cpu", "cgroup cgroup rw,cpu,cpuacct")
    top = proc.mount("/", "memory", "cgroup cgroup rw,memory")
    write_v1(top, 9223372036854771712)
    write_v1(top / "slurm" / "job", 5000)
    found = proc.limits("5:cpu,cpuacct:/slurm\n4:memory:/slurm/job\n1:name=systemd:/x:y\n0::/\n")
    assert found == [MemoryLimit(str(top / "slurm" / "job"), 5000, 60)]


@pytest.mark.parametrize("group", ["/docker/abc", "/docker/abcdef", "/", "/../other"])
def test_in_a_container_the_root_of_what_is_mounted_has_the_limit(proc, group):
    top = proc.mount("/docker/abc", "memory", "cgroup cgroup rw,memory")
    write_v1(top, 5000)
    assert proc.limits(f"4:memory:{group}\n") == [MemoryLimit(str(top), 5000, 60)]


@pytest.mark.parametrize("groups", ["", "0::/\n", "4:memory:/job\n", "nonsense\n"])
def test_without_a_limit_or_a_mounted_file_system_there_is_none(proc, groups):
    assert proc.limits(groups) == []
    assert memory_limits(proc.path / "nowhere") == []
