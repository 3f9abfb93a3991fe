"""A trainer that reports its fork, and runs one batch, or batches without end if the setting `busy` is true.

The fork lives until its standard input ends.
"""

from __future__ import annotations

import os
import sys

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

pool = shmbridge.SprintInstancePool(**OPTIONS)
fork = os.fork()
if fork == 0:
    sys.stdin.read()
    os._exit(0)
say(fork)
while True:
    pool.get_batch_loss_and_error_signal(np.ones((3, 2, 4)), [3, 3], ["c/s1", "c/s2"])
    if not SETTINGS["busy"]:
        sys.stdin.read()
