"""A trainer that lowers its limit of descriptors before Sprint is killed, and then restores it.

It reports what each of two batches returned or raised.
"""

from __future__ import annotations

import os
import resource
import signal

import numpy as np

import shmbridge
from support.trainer import OPTIONS, say

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
pool = shmbridge.SprintInstancePool(**OPTIONS)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
os.kill(pool.stats().children[0].pid, signal.SIGKILL)
for limit in (3, soft):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
        say("right")
    except (shmbridge.PeerGoneError, shmbridge.ResourceError) as error:
        say(type(error).__name__)
pool.close()
say("closed")
