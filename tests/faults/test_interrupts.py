"""Ctrl-C and SIGTERM while the trainer waits: it promptly ends, and so do its children."""

from __future__ import annotations

import signal

import pytest

# The call of the main thread that the signal interrupts; as in tests/sprints/interrupted_trainer.py.
WAITS = [
    "a batch",
    "a result in place",
    "room for a claim",
    "worker threads that wait",
    "the pool's lock, which a worker thread holds",
    "two pools",
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_closes_the_pool_and_leaves_nothing_behind(sprint_env, wait, number):
    mark = sprint_env.path / "at-work"
    # Two rings of 64 kB; Sprint does not answer, so the pool must kill it.
    options = sprint_env.sprint_file(
        "busy", {"how": "sleeps", "mark": mark}, ring_size=1 << 18, exit_timeout=0.2
    )
    with sprint_env.trainer_file("interrupted_trainer", options, wait=wait) as trainer:
        pools = 2 if wait == "two pools" else 1
        sprint_env.wait_until(lambda: mark.exists() and len(mark.read_text()) == pools, "Sprint is at work")
        sprint_env.wait_until(lambda: main_thread_sleeps(trainer.pid), "the trainer waits")
        trainer.send_signal(number)
        if "thread" in wait or wait == "two pools":
            assert sprint_env.said(trainer) == ["in the thread", "the pool was closed [closed]"]
        assert sprint_env.said(trainer) == ["in the main thread", True]
        trainer.communicate()
        assert trainer.returncode == 0
    assert sprint_env.sprint_pids() == []


def main_thread_sleeps(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
