"""Ctrl-C and SIGTERM while the trainer waits: it promptly ends, and so do its children."""

from __future__ import annotations

import signal

import pytest

SPRINT = """
def working(command, **arguments):
    if command == "calculate_criterion":
        open({mark!r}, "a").write("x")
        threading.Event().wait()
    return callback(command, **arguments)

init().run_control_loop(callback=working)
"""
# The call of the main thread that the signal interrupts.
WAITS = {
    "a batch": "call(pool)",
    "a result in place": """
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[:] = 1
        claim.send().result()
    """,
    "room for a claim": """
        claims = []
        while True:
            claims.append(pool.claim("c/s1", 300, 100))
            claims[-1].posteriors[:] = 1
            claims[-1].send()
            claims[-1] = None
    """,
    "worker threads that wait": """
        thread = threading.Thread(target=in_thread, args=(pool,))
        thread.start()
        thread.join()
    """,
    "the pool's lock, which a worker thread holds": """
        thread = threading.Thread(target=in_thread, args=(pool,))
        thread.start()
        at_work.wait()
        call(pool)
    """,
    "two pools": """
        with shmbridge.SprintInstancePool(**OPTIONS) as other:
            thread = threading.Thread(target=in_thread, args=(other,))
            thread.start()
            call(pool)
    """,
}
TRAINER = """
import textwrap
at_work = threading.Event()

def call(pool):
    pool.get_batch_loss_and_error_signal(np.ones((3, 2, 4)), [3, 3], ["c/s1", "c/s2"])

def in_thread(pool):
    at_work.set()
    try:
        call(pool)
    except shmbridge.ClosedError as error:
        say(["in the thread", str(error)])

def interrupt(number, frame):
    raise KeyboardInterrupt(number)

signal.signal(signal.SIGTERM, interrupt)
thread = None
try:
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        {wait}
except KeyboardInterrupt:
    if thread is not None:
        thread.join()
    say(["in the main thread", pool.closed])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_closes_the_pool_and_leaves_nothing_behind(sprint_env, wait, number):
    mark = sprint_env.path / "at-work"
    body = "\n        ".join(line[8:] or line for line in WAITS[wait].strip("\n").splitlines())
    if "\n" not in WAITS[wait]:
        body = WAITS[wait]
    # Two rings of 64 kB; Sprint does not answer, so the pool must kill it.
    options = sprint_env.scripted(SPRINT.format(mark=str(mark)), ring_size=1 << 18, exit_timeout=0.2)
    with sprint_env.trainer(TRAINER.format(wait=body), options) as trainer:
        pools = 2 if wait == "two pools" else 1
        sprint_env.wait_until(lambda: mark.exists() and len(mark.read_text()) == pools, "Sprint is at work")
        sprint_env.wait_until(lambda: main_thread_sleeps(trainer.pid), "the trainer waits")
        trainer.send_signal(number)
        if "thread" in body:
            assert sprint_env.said(trainer) == ["in the thread", "the pool was closed [closed]"]
        assert sprint_env.said(trainer) == ["in the main thread", True]
        trainer.communicate()
        assert trainer.returncode == 0
    assert sprint_env.sprint_pids() == []


def main_thread_sleeps(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"
