"""The trainer ends at any stage, in any way: its children exit, and nothing is left behind.

A fork of the trainer, such as a data loader, lives on with everything that it has inherited.
"""

from __future__ import annotations

import os
import signal

import pytest

# Those of tests/sprints/trainer_that_ends.py.
STAGES = [
    "starting",
    "waiting",
    "copying a batch",
    "in-place claim open",
    "result held",
    "closing",
    "closing behind Ctrl-C",
]
ENDS = ["SIGKILL", "SIGTERM", "exit", "exec"]
QUICK_SPRINT = "init().run_control_loop(callback=callback)"


def trainer_that_ends(sprint_env, options, stage, end, wait_for=""):
    """Run the trainer to its end, check that its children end, and then let the fork end."""
    with sprint_env.trainer_file(
        "trainer_that_ends", options, stage=stage, end=end, wait_for=wait_for
    ) as trainer:
        fork, pids = sprint_env.said(trainer)
        assert len(pids) == 2
        if end != "exec":
            trainer.wait()
        try:
            sprint_env.wait_gone(pids)
            assert (trainer.poll() is None) == (end == "exec")
            os.kill(fork, 0)  # it is alive
        finally:
            trainer.stdin.close()
            for pid in sprint_env.sprint_pids():
                os.kill(pid, signal.SIGKILL)
        sprint_env.wait_gone([fork])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_children_end_with_their_trainer(sprint_env, stage, end):
    trainer_that_ends(sprint_env, sprint_env.scripted(QUICK_SPRINT, num_instances=2), stage, end)


# The activity of Sprint at that time; none of them returns to Python code of shmbridge.
BUSY = ["computes in C with the GIL", "loops in Python", "before the first segment"]


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("stage", ["waiting", "closing behind Ctrl-C"])
@pytest.mark.parametrize("end", ["SIGKILL", "exec"])
def test_busy_children_end_with_their_trainer(sprint_env, end, stage, busy):
    mark = sprint_env.path / "busy"
    options = sprint_env.sprint_file("busy", {"how": busy, "mark": mark}, num_instances=2)
    trainer_that_ends(sprint_env, options, stage, end, wait_for=str(mark))
