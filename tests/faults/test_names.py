"""Shared memory never has a name: a trainer that is killed while it creates some leaves nothing behind."""

from __future__ import annotations

import errno
import os
import re

import pytest


def names():
    # As posix_ipc generates them: other processes of this machine create their own for a moment.
    return {name for name in os.listdir("/dev/shm") if re.fullmatch("[a-z]+", name)}


def test_a_trainer_that_is_killed_while_it_creates_shared_memory_leaves_no_name(sprint_env):
    before = names()
    with sprint_env.trainer_file("killed_allocations", {}) as trainer:
        kills = sprint_env.said(trainer)
    assert kills > 3
    sprint_env.wait_until(lambda: not names() - before, "no name is left")


SPRINT = """
fields = dict(item.split(":") for item in CONFIG.split(","))
for name in ("shm_fd", "bell_fd"):
    status = os.fstat(int(fields[name]))
    SEEN[name] = [oct(status.st_mode & 0o777), status.st_nlink]
init().run_control_loop(callback=callback)
"""


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL])
def test_without_memfd_the_name_is_unlinked_at_once(sprint_env, refusal):
    options = sprint_env.scripted(SPRINT)
    with sprint_env.trainer_file("trainer_without_memfd", options, refusal=refusal) as trainer:
        assert sprint_env.said(trainer) == [1.5]
        trainer.wait()
    assert sprint_env.seen()["shm_fd"] == sprint_env.seen()["bell_fd"] == ["0o600", 0]


def test_ctrl_c_while_memory_is_reserved_leaves_no_descriptor(sprint_env):
    with sprint_env.trainer_file("interrupted_allocation", {}) as trainer:
        assert sprint_env.said(trainer) == 0
