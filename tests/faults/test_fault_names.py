"""Shared memory never has a name: a trainer that is killed while it creates some leaves nothing behind."""

from __future__ import annotations

import errno
import os
import re

import pytest

# Forks of the trainer create shared memory; each is killed before another line of that code.
KILLED = """
from support.internals import create_shared_memory, memory_reservation_file

def is_killed_before(place):
    fork = os.fork()
    if fork == 0:
        lines = 0
        def at_each_line(frame, event, _):
            nonlocal lines
            if frame.f_code.co_filename != memory_reservation_file():
                return None
            if event == "line":
                lines += 1
                if lines == place:
                    os.kill(os.getpid(), signal.SIGKILL)
            return at_each_line
        sys.settrace(at_each_line)
        create_shared_memory(1 << 20)
        os._exit(0)
    return os.waitpid(fork, 0)[1] == signal.SIGKILL

place = 1
while is_killed_before(place):
    place += 1
say(place - 1)
"""


def names():
    # As posix_ipc generates them: other processes of this machine create their own for a moment.
    return {name for name in os.listdir("/dev/shm") if re.fullmatch("[a-z]+", name)}


def test_a_trainer_that_is_killed_while_it_creates_shared_memory_leaves_no_name(sprint_env):
    before = names()
    with sprint_env.trainer(KILLED, {}) as trainer:
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
# A file system without O_TMPFILE; it counts the attempts.
REFUSING = """
asked = 0
real_open = os.open

def refusing_open(path, flags, *arguments, **more):
    global asked
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        asked += 1
        raise OSError(REFUSAL, os.strerror(REFUSAL), path)
    return real_open(path, flags, *arguments, **more)

os.open = refusing_open
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
say([asked, loss.tolist()])
"""


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL])
def test_without_o_tmpfile_the_name_is_unlinked_at_once(sprint_env, refusal):
    with sprint_env.trainer(f"REFUSAL = {refusal}\n{REFUSING}", sprint_env.scripted(SPRINT)) as trainer:
        assert sprint_env.said(trainer) == [2, [1.5]]
        trainer.wait()
    assert sprint_env.seen()["shm_fd"] == sprint_env.seen()["bell_fd"] == ["0o600", 0]


INTERRUPTED = """
from support.internals import create_shared_memory, memory_reservation_file

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
