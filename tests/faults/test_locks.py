"""Nothing waits in the module threading: a signal handler that raises there may leave a lock held."""

from __future__ import annotations

import sys
import threading

import numpy as np

import shmbridge
from support.internals import kill_child

# The functions of threading that wait, and those that they call.
WAITING = {"wait", "wait_for", "join", "start", "acquire", "_wait_for_tstate_lock", "_acquire_restore"}


def test_the_main_thread_waits_in_no_function_of_threading(sprint_env):
    waited = []

    def trace(frame, _event, _argument):
        code = frame.f_code
        if code.co_filename == threading.__file__ and code.co_name in WAITING:
            waited.append(code.co_name)

    options = sprint_env.scripted("init().run_control_loop(callback=callback)")
    before = sys.gettrace()
    sys.settrace(trace)  # of this thread only
    try:
        with shmbridge.SprintInstancePool(**options) as pool:
            for _ in range(2):
                pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
                kill_child(pool)
    finally:
        sys.settrace(before)
    assert waited == []
