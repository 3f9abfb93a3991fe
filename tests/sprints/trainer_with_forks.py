"""A trainer whose forks end in several ways, each between two batches of the pool that they inherit."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

import shmbridge
from support.trainer import OPTIONS, say

pool = shmbridge.SprintInstancePool(**OPTIONS)
for how in ("os._exit", "sys.exit", "close", "kill"):
    pid = os.fork()
    if pid == 0:
        if how == "os._exit":
            os._exit(0)
        if how == "close":
            pool.close()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        sys.exit(0)  # with Python's finalisation
    os.waitpid(pid, 0)
    loss, _ = pool.get_batch_loss_and_error_signal(np.full((3, 1, 4), -1.0), [3], ["kórpus/rec/one"])
    say([how, float(loss[0])])
