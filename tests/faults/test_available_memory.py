"""How much memory is available, by the files of the machine and by the limits of the control groups."""

from __future__ import annotations

import pytest

import shmbridge
from shmbridge import available_memory as module
from shmbridge.available_memory import available_memory, require_memory
from shmbridge.control_group import MemoryLimit
from support.internals import after_each_spawn

MEMINFO = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\nSwapFree: 24 kB\nHugePages_Total: 0\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Set the text of /proc/meminfo, which is absent if it is empty, and the limits of the control groups."""

    def change(meminfo, *limits):
        monkeypatch.setattr(module, "_MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(module, "memory_limits", lambda: list(limits))
        if meminfo:
            (tmp_path / "meminfo").write_text(meminfo)

    return change


def test_without_a_control_group_the_machine_limits(system):
    system(MEMINFO)
    assert available_memory()[:2] == (1024 * 1024, "on this machine")


def test_the_group_with_the_least_room_limits(system):
    system(MEMINFO, MemoryLimit("/cg/job/step", 10000, 2000), MemoryLimit("/cg/job", 20000, 13000))
    assert available_memory()[:2] == (7000, "in the control group /cg/job")


def test_more_usage_than_the_limit_leaves_nothing(system):
    system(MEMINFO, MemoryLimit("/cg", 100, 200))
    assert available_memory().size == 0


def test_a_system_that_reports_nothing_refuses_nothing(system):
    system("")
    assert available_memory() is None
    require_memory(1 << 60)


def test_the_error_names_both_sizes_and_the_limit(system):
    system(MEMINFO, MemoryLimit("/cg/job", 5000, 3000))
    require_memory(2000)
    with pytest.raises(shmbridge.ResourceError) as caught:
        require_memory(2001)
    for text in ("2001 bytes", "2000 bytes are free in the control group /cg/job", "--memory"):
        assert text in str(caught.value)


def test_a_pool_checks_the_sum_for_all_children_before_it_starts_one(system, sprint_env):
    system(f"MemAvailable: {100 << 10} kB\n")  # enough for each child alone
    started = []
    with after_each_spawn(started.append), pytest.raises(shmbridge.ResourceError) as caught:
        sprint_env.scripted_pool("init()", num_instances=200, ring_size=1 << 20)
    total = 200 * ((2 << 20) + 2 * 4096)
    assert f"{total} bytes" in str(caught.value)
    assert "for 200 children" in str(caught.value)
    assert started == []
