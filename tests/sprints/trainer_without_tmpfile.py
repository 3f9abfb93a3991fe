"""A trainer on a file system without O_TMPFILE. The setting `refusal` is the error number."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

attempts = 0
real_open = os.open


def refusing_open(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
    """Refuse to open files without a name, and count the attempts."""
    global attempts
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        attempts += 1
        raise OSError(SETTINGS["refusal"], os.strerror(SETTINGS["refusal"]), path)
    return real_open(path, flags, *arguments, **more)


with mock.patch.object(os, "open", refusing_open), shmbridge.SprintInstancePool(**OPTIONS) as pool:
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
say([attempts, loss.tolist()])
