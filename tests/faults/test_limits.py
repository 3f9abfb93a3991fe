"""A machine with too few resources: an error with the required amount, and a pool once there is enough."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess

import pytest

QUICK_SPRINT = "init().run_control_loop(callback=callback)"
ROOM = 64 << 20  # of /dev/shm in a container of Docker


def small_shm(size):
    """The shell command that makes /dev/shm this small, in bytes."""
    return f"mount -t tmpfs -o size={size},mode=1777 tmpfs /dev/shm"


def with_mount(mount, command):
    """The command, in a mount namespace of its own in which the shell command `mount` has been executed."""
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        f'{mount} && exec "$@"',
        "sh",
        *command,
    ]


def check_namespaces():
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    done = subprocess.run(with_mount(small_shm(ROOM), ["true"]), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.strip()}")


def run(sprint_env, command):
    """Run a trainer to its end, and return its reports."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**sprint_env.env, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- shared memory

# As in tests/sprints/trainer_in_small_memory.py.
TOO_LARGE = "the pool's rings do not fit"
TOO_MANY = "the last child does not fit"
FILLED_BEFORE_RESTART = "other processes fill it before the restart of a child"
FILLED_BEFORE_RETRY = "other processes fill it before a segment is resent"
ROOM_FOR_ONE = "there is room for one child only, which is restarted"


def check_messages(sprint_env, what, mount, texts, **settings):
    check_namespaces()
    folder = str(sprint_env.path)
    options = sprint_env.sprint_file("deadly", {"folder": folder}, ring_size=8 << 20)
    command = sprint_env.trainer_command(
        "trainer_in_small_memory", options, case=what, folder=folder, **settings
    )
    for message in run(sprint_env, with_mount(mount, command)):
        for text in ("bytes", "are needed", "ring_size", *texts):
            assert text in message


@pytest.mark.parametrize("what", [TOO_LARGE, FILLED_BEFORE_RESTART, FILLED_BEFORE_RETRY])
def test_too_little_memory_is_an_error_with_both_sizes(sprint_env, what):
    meminfo = sprint_env.path / "meminfo"
    meminfo.write_text("")
    # The memory is a memfd, so the size of /dev/shm does not matter.
    mount = f"{small_shm(1 << 20)} && {shlex.join(['mount', '--bind', str(meminfo), '/proc/meminfo'])}"
    check_messages(sprint_env, what, mount, ["are free on this machine"], meminfo=str(meminfo))


@pytest.mark.parametrize(
    "what", [TOO_LARGE, TOO_MANY, FILLED_BEFORE_RESTART, FILLED_BEFORE_RETRY, ROOM_FOR_ONE]
)
def test_without_memfd_a_small_dev_shm_is_an_error_with_both_sizes(sprint_env, what):
    check_messages(sprint_env, what, small_shm(ROOM), ["are free in /dev/shm", "--shm-size"], meminfo="")


# --- descriptors, threads and processes, address space


def check_limits(sprint_env, resource, expected, prefix=()):
    options = sprint_env.scripted(QUICK_SPRINT, num_instances=2)
    # os.access checks the real user, and exec the capabilities.
    options["sprint_exec_path"] = ["/bin/sh", "-c", 'exec "$0" "$@"', *options["sprint_exec_path"]]
    command = sprint_env.trainer_command("trainer_with_limit", options, resource=resource)
    said = run(sprint_env, [*prefix, *command])
    messages = [message for limit, message in said if limit is not None]
    assert said[-1] == [None, "room"]
    assert messages[-1] == "room"
    for message in messages[:-1]:
        assert any(text in message for text in expected), message
    return messages[:-1]


def test_too_few_descriptors_are_an_error_at_every_limit(sprint_env):
    messages = check_limits(sprint_env, "descriptors", ["ulimit"])
    assert len(messages) > 15


def test_too_little_address_space_is_an_error(sprint_env):
    messages = check_limits(
        sprint_env, "address space", ["bytes", "memory", "ulimit", "Memory", "thread", "Sprint: "]
    )
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
    messages = check_limits(sprint_env, "processes", ["ulimit", "Sprint: "], as_other)
    assert messages


def test_a_death_is_noticed_after_the_limit_of_descriptors_was_lowered(sprint_env):
    with sprint_env.trainer_file("trainer_with_lowered_limit", sprint_env.scripted(QUICK_SPRINT)) as trainer:
        assert sprint_env.said(trainer) in ("PeerGoneError", "ResourceError")
        assert sprint_env.said(trainer) == "right"
        assert sprint_env.said(trainer) == "closed"
