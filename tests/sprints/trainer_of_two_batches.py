"""A trainer that runs two batches of one segment, and reports their losses."""

from __future__ import annotations

import numpy as np

import shmbridge
from support.trainer import OPTIONS, say

with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    posteriors = np.ones((100, 1, 4), np.float32)
    say([float(pool.get_batch_loss_and_error_signal(posteriors, [100], ["c/s1"]).loss[0]) for _ in range(2)])
