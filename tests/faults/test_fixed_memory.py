"""The size of the shared memory cannot be changed: a missing page would end a process with SIGBUS."""

from __future__ import annotations

# Tries all ways to take pages away, in a process that has the descriptors from its parent.
SPRINT = """
import fcntl

fields = dict(item.split(":") for item in CONFIG.split(","))
copies = {name: os.dup(int(fields[name])) for name in ("shm_fd", "bell_fd")}  # init closes its own

def attempt(change, name):
    try:
        change(copies[name])
        return "done"
    except OSError as error:
        return type(error).__name__

def reopen(fd):
    with open(f"/proc/self/fd/{fd}", "wb"):
        pass

changes = {
    "shorten": lambda fd: os.ftruncate(fd, 0),
    "shorten by a page": lambda fd: os.ftruncate(fd, os.fstat(fd).st_size - 4096),
    "lengthen": lambda fd: os.ftruncate(fd, 1 << 30),
    "reopen": reopen,
    "another seal": lambda fd: fcntl.fcntl(fd, 1033, 16),
}

def truncating_callback(command, **arguments):
    if command == "calculate_criterion":
        for what, change in changes.items():
            SEEN[what] = [attempt(change, name) for name in copies]
    return callback(command, **arguments)

init().run_control_loop(callback=truncating_callback)
"""


def test_sprint_cannot_truncate_the_shared_memory(sprint_env):
    # In a process of its own: without the seals it ends with SIGBUS.
    with sprint_env.trainer(TRAINER, sprint_env.scripted(SPRINT)) as trainer:
        assert sprint_env.said(trainer) == [1.5, 1.5]
        assert trainer.wait() == 0
    refused = ["PermissionError"] * 2
    seen = {what: result for what, result in sprint_env.seen().items() if what != "orthographies"}
    assert seen == dict.fromkeys(seen, refused)
    assert len(seen) == 5


TRAINER = """
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    posteriors = np.ones((100, 1, 4), np.float32)
    say([float(pool.get_batch_loss_and_error_signal(posteriors, [100], ["c/s1"])[0][0]) for _ in range(2)])
"""
