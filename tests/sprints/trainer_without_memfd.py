"""A trainer whose system refuses memfd_create with the error number `refusal`; it reports a loss."""

from __future__ import annotations

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say
from support.without_memfd import refuse_memfd

refuse_memfd(SETTINGS["refusal"])
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
say(loss.tolist())
