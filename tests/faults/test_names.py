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


TRAINER = """
from support.without_memfd import refuse_memfd

refuse_memfd(ERROR)
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
say(loss.tolist())
"""


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL])
def test_without_memfd_the_name_is_unlinked_at_once(sprint_env, refusal):
    with sprint_env.trainer(TRAINER.replace("ERROR", str(refusal)), sprint_env.scripted(SPRINT)) as trainer:
        assert sprint_env.said(trainer) == [1.5]
        trainer.wait()
    assert sprint_env.seen()["shm_fd"] == sprint_env.seen()["bell_fd"] == ["0o600", 0]


INTERRUPTED = """
from support.internals import create_shared_memory

def interrupted(*_):
    raise KeyboardInterrupt

os.posix_fallocate = interrupted
before = len(os.listdir("/proc/self/fd"))
try:
    create_shared_memory(1 << 20)
except KeyboardInterrupt:
    say(len(os.listdir("/proc/self/fd")) - before)
"""


def test_ctrl_c_while_memory_is_reserved_leaves_no_descriptor(sprint_env):
    with sprint_env.trainer(INTERRUPTED, {}) as trainer:
        assert sprint_env.said(trainer) == 0
