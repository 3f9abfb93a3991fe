"""Events in the trainer while a pool or a child starts or closes."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

import shmbridge
from support.internals import kill_child, poll_after_exits_only

QUICK = "init().run_control_loop(callback=callback)"

# --- forks


@pytest.mark.parametrize("restart", [False, True])
def test_a_fork_during_the_start_of_a_sprint_inherits_no_descriptor_of_it(sprint_env, restart):
    settings = {name: str(sprint_env.path / name) for name in ("mark", "report")}
    options = sprint_env.scripted(QUICK)
    with sprint_env.trainer_file("forking_trainer", options, restart=restart, **settings) as trainer:
        loss, before, during, in_fork = sprint_env.said(trainer)
    assert loss == [1.5]

    def of_the_pool(links):
        return [link for link in links if link.startswith("pipe:") or "memfd:shmbridge" in link]

    assert len(of_the_pool(during)) > len(of_the_pool(before))
    assert sorted(of_the_pool(in_fork)) == sorted(of_the_pool(before))


# --- the end of the interpreter

# Prints much, and never sends its hello.
FLOODING = """
open({mark!r}, "w").close()
while True:
    print("Sprint says something", flush=True)
"""


@pytest.mark.parametrize("end", ["", "sys.exit", "SystemExit"])
def test_the_interpreter_can_exit_while_a_pool_starts(sprint_env, end):
    mark = str(sprint_env.path / "mark")
    options = sprint_env.scripted(FLOODING.format(mark=mark))
    with sprint_env.trainer_file("trainer_that_exits", options, mark=mark, end=end) as trainer:
        assert sprint_env.said(trainer) == "the pool was closed [closed]"
        assert sprint_env.said(trainer) == []
        assert trainer.wait() == 0
        assert sprint_env.sprint_pids() == []


# At its exit request, the first Sprint sends Ctrl-C to its trainer; no Sprint exits.
STAYING = """
import contextlib, signal
init().run_control_loop(callback=callback)
with contextlib.suppress(FileExistsError):
    os.mkdir({mark!r})
    os.kill(os.getppid(), signal.SIGINT)
while True:
    signal.pause()
"""


def test_ctrl_c_while_the_pool_waits_for_sprints_exit_promptly_ends_both(sprint_env):
    staying = STAYING.format(mark=str(sprint_env.path / "mark"))
    options = sprint_env.scripted(staying, num_instances=2)
    with sprint_env.trainer_file("interrupted_close", options) as trainer:
        assert sprint_env.said(trainer) == "KeyboardInterrupt"
        assert sprint_env.said(trainer) == []
        assert sprint_env.said(trainer) == "closed"
        sprint_env.wait_until(lambda: sprint_env.sprint_pids() == [], "both are ended")
        os.kill(trainer.pid, signal.SIGCONT)  # it is alive
        trainer.stdin.close()
        assert trainer.wait() == 0


# --- a Sprint that ends right after its hello


@pytest.fixture
def seen_late():
    """The trainer does not poll its children before they have ended, as if it had no core."""
    with poll_after_exits_only():
        yield


def one_batch(pool):
    return pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])


@pytest.mark.usefixtures("seen_late")
def test_the_end_of_a_sprint_right_after_its_hello_is_an_error_of_the_next_call(sprint_env):
    with sprint_env.scripted_pool("init()\nos._exit(5)") as pool:
        for _ in range(2):
            with pytest.raises(shmbridge.PeerGoneError, match="exited with code 5"):
                one_batch(pool)


@pytest.mark.usefixtures("seen_late")
def test_sprints_that_end_right_after_their_hello_are_not_restarted_without_limit(sprint_env):
    with sprint_env.scripted_pool("init()\nos._exit(5)", max_restarts=2) as pool:
        assert pool.stats().restarts == 2
        with pytest.raises(shmbridge.PeerGoneError, match="exited with code 5"):
            one_batch(pool)


# --- the working directory


def restarted_elsewhere(sprint_env, monkeypatch, tmp_path):
    """Start a pool whose options have relative paths, change the directory, and end the child."""
    monkeypatch.chdir(sprint_env.path)
    options = sprint_env.scripted(QUICK)
    script = os.path.basename(options["sprint_exec_path"][1])
    relative = [os.path.relpath(sys.executable), script]
    pool = shmbridge.SprintInstancePool(**{**options, "sprint_exec_path": relative})
    one_batch(pool)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    kill_child(pool)
    return pool


def test_relative_paths_are_those_of_the_pools_start(sprint_env, monkeypatch, tmp_path):
    with restarted_elsewhere(sprint_env, monkeypatch, tmp_path) as pool:
        loss, _ = one_batch(pool)
        assert loss.tolist() == [1.5]


def test_a_folder_that_was_removed_since_the_pools_start_is_an_error_that_names_it(
    sprint_env, monkeypatch, tmp_path
):
    with restarted_elsewhere(sprint_env, monkeypatch, tmp_path) as pool:
        there, elsewhere = sprint_env.path, tmp_path.with_name("moved")
        there.rename(elsewhere)
        try:
            with pytest.raises(shmbridge.OptionError, match=rf"{there.name}.*\[executable\]"):
                one_batch(pool)
        finally:
            elsewhere.rename(there)
        one_batch(pool)
