"""A process that Sprint started and that inherits its output: Sprint's end is noticed all the same."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import shmbridge
from support.internals import children


def one_batch(pool):
    pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])


class Helped:
    """A pool whose Sprint starts a helper; the helper is ended at the end of the test."""

    def __init__(self, sprint_env, **settings):
        self.pid_file = sprint_env.path / "helper"
        settings = {"helper": self.pid_file, "session": "", "loud": "", **settings}
        self.options = sprint_env.sprint_file("with_helper", settings)

    def __enter__(self):
        return shmbridge.SprintInstancePool(**self.options)

    def __exit__(self, *_):
        try:
            os.kill(self.helper, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @property
    def helper(self):
        return int(self.pid_file.read_text())


def wait_for_the_end(pool):
    one_batch(pool)  # after which Sprint exits
    children(pool)[0].wait_for_exit()


@pytest.mark.parametrize("session", ["", "new"])
def test_the_end_of_sprint_is_noticed_while_a_helper_writes_to_its_output(sprint_env, session):
    with Helped(sprint_env, loud="yes", session=session) as pool, pool:
        wait_for_the_end(pool)
        assert children(pool)[0].death().exit_code == 3
        one_batch(pool)  # by another Sprint


def test_a_helper_in_a_session_of_its_own_cannot_fill_the_log_after_sprints_end(sprint_env):
    helped = Helped(sprint_env, loud="yes", session="new")
    with helped as pool, pool:
        wait_for_the_end(pool)
        sprint_env.wait_gone([helped.helper])  # its output has no reader any more


@pytest.mark.parametrize("loud", ["", "yes"])
def test_what_sprint_started_in_its_process_group_ends_with_it(sprint_env, loud):
    helped = Helped(sprint_env, loud=loud)
    with helped as pool, pool:
        wait_for_the_end(pool)
        sprint_env.wait_gone([helped.helper])
