"""A machine with too few resources: an error with the required amount, and a pool once there is enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

QUICK_SPRINT = "init().run_control_loop(callback=callback)"
ROOM = 64 << 20  # of /dev/shm in a container of Docker


def in_small_shm(command):
    """The command, in a mount namespace of its own in which /dev/shm has 64 MB."""
    mount = f'mount -t tmpfs -o size={ROOM},mode=1777 tmpfs /dev/shm && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", *command]


def check_namespaces():
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run(in_small_shm(["true"]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.strip()}")


def run(sprint_env, body, options, command=lambda command: command):
    """Run a trainer to its end, and return its reports."""
    head = f"""
        import gc, json, os, resource, signal, sys, threading
        import numpy as np
        import shmbridge
        OPTIONS = { ({k: v for k, v in options.items() if k != "env"})!r}
        def say(what):
            print(json.dumps(what), flush=True)
        def check(pool):
            loss, error_signal = pool.get_batch_loss_and_error_signal(
                np.ones((3, 2, 4), np.float32), [3, 3], ["c/s1", "c/s2"])
            assert loss.tolist() == [1.5, 1.5] and (error_signal == 2).all()
    """
    script = sprint_env.path / "trainer.py"
    script.write_text(textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
    done = subprocess.run(
        command([sys.executable, "-X", "faulthandler", str(script)]),
        capture_output=True,
        text=True,
        env={**sprint_env.env, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- shared memory

SHM = {
    "the pool's rings do not fit": """
        refused(lambda: shmbridge.SprintInstancePool(**{**OPTIONS, "ring_size": 128 << 20}))
        with shmbridge.SprintInstancePool(**OPTIONS) as pool:
            check(pool)
    """,
    "the last child does not fit": """
        refused(lambda: shmbridge.SprintInstancePool(**{**OPTIONS, "num_instances": 4}))
        with shmbridge.SprintInstancePool(**{**OPTIONS, "num_instances": 3}) as pool:
            check(pool)
    """,
    "other processes fill it before the restart of a child": """
        with shmbridge.SprintInstancePool(**OPTIONS) as pool:
            error_signal = held(pool)
            fill()
            kill_child(pool)
            for _ in range(2):
                refused(lambda: check(pool))
            assert (error_signal == 2).all()
            del error_signal
            check(pool)
    """,
    "other processes fill it before a segment is resent": """
        with shmbridge.SprintInstancePool(**OPTIONS, max_restarts=1) as pool:
            error_signal = held(pool)
            fill()
            open(MARK, "w").close()
            try:
                check(pool)
                say("no error")
            except shmbridge.PeerGoneError as error:
                assert error.signal_name == "SIGKILL", error
            refused(lambda: check(pool))
            os.unlink("/dev/shm/filler")
            check(pool)
            assert (error_signal == 2).all()
    """,
    "there is room for one child only, which is restarted": """
        with shmbridge.SprintInstancePool(**{**OPTIONS, "ring_size": 20 << 20}, max_restarts=1) as pool:
            check(pool)
            for _ in range(3):
                open(MARK, "w").close()
                check(pool)
            kill_child(pool)
            check(pool)
            assert pool.stats().restarts == 4
    """,
}
SHM_TRAINER = """
from support.internals import kill_child
MARK = {mark!r}

def refused(call):
    try:
        call()
        say("no error")
    except shmbridge.ResourceError as error:
        say(str(error))

def fill():
    status = os.statvfs("/dev/shm")
    with open("/dev/shm/filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)

def held(pool):
    # A result of which the user keeps the memory of its Sprint, so that a new one needs some of its own.
    claim = pool.claim("c/s1", 3, 4)
    claim.posteriors[:] = 1
    return claim.send().result().error_signal

{body}
"""
MORTAL_SPRINT = """
import signal

def mortal(command, **arguments):
    if command == "calculate_criterion" and os.path.exists({mark!r}):
        os.unlink({mark!r})
        os.kill(os.getpid(), signal.SIGKILL)
    return callback(command, **arguments)

init().run_control_loop(callback=mortal)
"""


@pytest.mark.parametrize("what", SHM)
def test_too_little_shared_memory_is_an_error_with_both_sizes(sprint_env, what):
    check_namespaces()
    mark = str(sprint_env.path / "mark")
    options = sprint_env.scripted(MORTAL_SPRINT.format(mark=mark), ring_size=8 << 20)
    body = SHM_TRAINER.format(mark=mark, body=textwrap.dedent(SHM[what]))
    for message in run(sprint_env, body, options, in_small_shm):
        for text in ("bytes", "are needed", "are free in /dev/shm", "ring_size", "--shm-size"):
            assert text in message


# --- descriptors, threads and processes, address space

LIMITED_TRAINER = """
def descriptors():
    return len(os.listdir("/proc/self/fd"))

def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()

def try_all(limits, kind):
    # Raise the limit until a pool fits; a failed attempt must not change the resources in use.
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:  # also imports all modules
        check(pool)
    unlimited = resource.getrlimit(kind)
    before = descriptors(), threading.active_count()
    for limit in limits:
        resource.setrlimit(kind, (limit, unlimited[1]))
        try:
            with shmbridge.SprintInstancePool(**OPTIONS) as pool:
                check(pool)
            said = "room"
        except shmbridge.ResourceError as error:
            said = str(error)
        except shmbridge.PeerGoneError as error:
            said = "Sprint: " + " ".join(error.last_output)
        except MemoryError as error:
            said = "MemoryError: " + str(error)
        finally:
            resource.setrlimit(kind, unlimited)
        gc.collect()
        say([limit, said])
        assert (descriptors(), threading.active_count(), children()) == (*before, []), said
        if said == "room":
            break
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        check(pool)
    say([None, "room"])

"""


def check_limits(sprint_env, body, expected, command=lambda command: command):
    options = sprint_env.scripted(QUICK_SPRINT, num_instances=2)
    # os.access checks the real user, and exec the capabilities.
    options["sprint_exec_path"] = ["/bin/sh", "-c", 'exec "$0" "$@"', *options["sprint_exec_path"]]
    said = run(sprint_env, LIMITED_TRAINER + textwrap.dedent(body), options, command)
    messages = [message for limit, message in said if limit is not None]
    assert said[-1] == [None, "room"]
    assert messages[-1] == "room"
    for message in messages[:-1]:
        assert any(text in message for text in expected), message
    return messages[:-1]


def test_too_few_descriptors_are_an_error_at_every_limit(sprint_env):
    body = """
    now = descriptors()
    try_all(range(now - 1, now + 60), resource.RLIMIT_NOFILE)
    """
    messages = check_limits(sprint_env, body, ["ulimit"])
    assert len(messages) > 15


def test_too_little_address_space_is_an_error(sprint_env):
    body = """
    import mmap
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * mmap.PAGESIZE
    try_all(range(now, now + (400 << 20), 4 << 20), resource.RLIMIT_AS)
    """
    messages = check_limits(sprint_env, body, ["bytes", "memory", "ulimit", "Memory", "thread", "Sprint: "])
    assert messages


def test_too_few_processes_are_an_error(sprint_env):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip(
            "the limit of processes holds for another user than root only, and only root becomes another"
        )
    # A user of its own, so that RLIMIT_NPROC counts only these processes; it may read the files of the tests.
    others = [f"--{which}" for which in ("reuid=54321", "regid=54321", "clear-groups")]
    may = "+dac_read_search,+dac_override"
    as_other = ["setpriv", *others, f"--inh-caps={may}", f"--ambient-caps={may}"]
    body = """
    try_all(range(1, 30), resource.RLIMIT_NPROC)
    """
    messages = check_limits(sprint_env, body, ["ulimit", "Sprint: "], lambda command: [*as_other, *command])
    assert messages
