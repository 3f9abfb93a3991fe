"""A wrapper that starts Sprint and waits for it: a hanging Sprint does not outlive the wrapper."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

import shmbridge

LAUNCHER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], close_fds=False).returncode)"
WRAPPERS = {
    "shell script": ["sh", "-c", '"$@"; exit $?', "sh"],
    "timeout": ["timeout", "1000"],
    "Python launcher": [sys.executable, "-c", LAUNCHER],
}
NEW_SESSION = [sys.executable, "-c", LAUNCHER.replace("close_fds", "start_new_session=True, close_fds")]


class Wrapped:
    def __init__(self, sprint_env, wrapper, how):
        if shutil.which(wrapper[0]) is None:
            pytest.skip(f"there is no {wrapper[0]}")
        self.mark, self.sprint_env = sprint_env.path / "hang", sprint_env
        settings = {"how": how, "mark": self.mark, "log": sprint_env.path / "log"}
        self.options = sprint_env.sprint_file("hanging", settings, segment_timeout=1)
        self.options["sprint_exec_path"] = [*wrapper, *self.options["sprint_exec_path"]]

    def run(self, pool):
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
        assert loss.tolist() == [1.5]

    def hang(self, pool):
        self.mark.touch()
        pids = self.sprint_env.sprint_pids()
        assert len(pids) == 2
        with pytest.raises(shmbridge.SegmentTimeoutError) as caught:
            self.run(pool)
        self.sprint_env.wait_gone(pids)
        return caught.value


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_hanging_sprint_writes_its_stacks_and_ends_with_its_wrapper(sprint_env, wrapper):
    wrapped = Wrapped(sprint_env, WRAPPERS[wrapper], "an endless loop in C that holds the GIL")
    with shmbridge.SprintInstancePool(**wrapped.options) as pool:
        error = wrapped.hang(pool)
        assert "in hang" in "\n".join(error.last_output)
        wrapped.run(pool)


def test_a_hanging_sprint_in_a_session_of_its_own_ends_too(sprint_env):
    wrapped = Wrapped(sprint_env, NEW_SESSION, "an endless loop in C that holds the GIL")
    with shmbridge.SprintInstancePool(**wrapped.options) as pool:
        wrapped.hang(pool)
        wrapped.run(pool)


@pytest.mark.parametrize("how", ["stopped", "the signal for the stack is blocked"])
def test_a_sprint_that_cannot_write_its_stacks_is_killed_with_its_wrapper(sprint_env, how):
    wrapped = Wrapped(sprint_env, WRAPPERS["shell script"], how)
    with shmbridge.SprintInstancePool(**wrapped.options) as pool:
        wrapped.hang(pool)
        wrapped.run(pool)


@pytest.mark.parametrize("pid", ["os.getppid()", "1 << 80", "-1", "'one'"])
def test_an_invalid_pid_in_the_hello_reaches_no_other_process(sprint_env, pid):
    body = """
    import time
    from shmbridge import protocol
    send = protocol.send
    def send_changed(descriptor, kind, **fields):
        send(descriptor, kind, **{**fields, **({"pid": %s} if kind == "hello" else {})})
    protocol.send = send_changed
    init().run_control_loop(callback=lambda *_, **__: time.sleep(1000))
    """
    pool = sprint_env.scripted_pool(body % pid, segment_timeout=0.5)
    with pool, pytest.raises(shmbridge.SegmentTimeoutError):
        pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
