"""A hanging Sprint is terminated after segment_timeout; the error contains its stack if possible."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import shmbridge

# Of tests/sprints/hanging.py. More ways: tests/bridge/test_restarts.py.
WITH_STACK = [
    "an endless loop in Python",
    "an endless loop in C that holds the GIL",
    "a lock that nobody releases",
]
WITHOUT_STACK = ["stopped", "the signal for the stack is blocked"]
NAMES = ["c/s0", "c/s1", "c/s2", "c/s3"]


class Hanging:
    def __init__(self, sprint_env, how):
        self.mark = sprint_env.path / "hang"
        self.log = sprint_env.path / "log"
        self.settings = {"how": how, "mark": self.mark, "log": self.log}
        self.sprint_env = sprint_env

    def pool(self, **more):
        return shmbridge.SprintInstancePool(**self.sprint_env.sprint_file("hanging", self.settings, **more))

    def run(self, pool):
        posteriors = np.ones((3, len(NAMES), 4), np.float32)
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, [3] * len(NAMES), NAMES)
        assert (loss == 1.5).all()
        assert (error_signal == 2).all()


@pytest.mark.parametrize("how", [*WITH_STACK, *WITHOUT_STACK])
def test_a_hanging_sprint_is_terminated_and_a_new_one_continues(sprint_env, how):
    hanging = Hanging(sprint_env, how)
    with hanging.pool(segment_timeout=0.5) as pool:
        hanging.mark.touch()
        with pytest.raises(shmbridge.SegmentTimeoutError, match="segment_timeout") as caught:
            hanging.run(pool)
        assert caught.value.segments == ("c/s1", "c/s2")
        if how in WITH_STACK:
            assert "in hang" in "\n".join(caught.value.last_output)
        hanging.run(pool)
        assert sprint_env.sprint_pids() != []


def test_segments_of_a_hanging_sprint_are_resent_and_each_is_answered_once(sprint_env):
    hanging = Hanging(sprint_env, "an endless loop in C that holds the GIL")
    with hanging.pool(segment_timeout=0.5, max_restarts=1, num_instances=2) as pool:
        hanging.mark.touch()
        hanging.run(pool)
        assert (pool.stats().segments, pool.stats().failed, pool.stats().restarts) == (4, 0, 1)
    assert sorted(hanging.log.read_text().split()) == sorted([*NAMES, "c/s1"])


def test_a_sprint_that_hangs_before_its_hello_is_terminated_after_start_timeout(sprint_env):
    with pytest.raises(shmbridge.BridgeTimeoutError, match=r"within 0\.5 seconds \(start_timeout\)"):
        sprint_env.scripted_pool("import itertools; sum(itertools.repeat(0))", start_timeout=0.5)
    assert sprint_env.sprint_pids() == []


# --- waiting means sleeping, not polling


def switches(pid):
    """Return the number of context switches of a process, or None if one of its threads is not asleep."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        if lines["State"][0] not in "ST":
            return None
        count += int(lines["voluntary_ctxt_switches"]) + int(lines["nonvoluntary_ctxt_switches"])
    return count


def test_trainer_and_sprint_sleep_while_they_wait_and_still_notice_a_death(sprint_env):
    """Neither side polls with a timer."""
    mark = sprint_env.path / "at-work"
    body = """
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        try:
            pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), [3], ["c/s1"])
        except shmbridge.PeerGoneError as error:
            say(error.signal_name)
    """
    options = sprint_env.sprint_file("busy", {"how": "sleeps", "mark": mark}, num_instances=2)
    with sprint_env.trainer(body, options) as trainer:
        sprint_env.wait_until(mark.exists, "Sprint is at work")
        pids = [trainer.pid, *sprint_env.sprint_pids()]
        assert len(pids) == 3

        def asleep():
            before = [switches(pid) for pid in pids]
            time.sleep(0.5)  # longer than any polling interval
            return None not in before and before == [switches(pid) for pid in pids]

        sprint_env.wait_until(asleep, "all threads sleep for half a second")
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)
        assert sprint_env.said(trainer) == "SIGKILL"
        trainer.communicate()
        assert trainer.returncode == 0
