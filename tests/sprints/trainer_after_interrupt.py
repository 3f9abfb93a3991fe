"""A trainer that catches the KeyboardInterrupt of its first call, and then runs further batches.

Settings: `in_place` selects the first call; `go` is a file, which the trainer creates after the interrupt.
"""

from __future__ import annotations

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    sent = None
    try:
        if SETTINGS["in_place"]:
            claim = pool.claim("c/s1", 3, 4)
            claim.posteriors[:] = 1
            sent = claim.send()
            sent.result()
        else:
            pool.get_batch_loss_and_error_signal(np.ones((3, 3, 4)), [3, 3, 3], ["c/s1", "c/s2", "c/s3"])
        say("no interrupt")
    except KeyboardInterrupt:
        say("KeyboardInterrupt")
    open(SETTINGS["go"], "w").close()
    for value in range(3):
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            np.full((4, 2, 4), float(value)), [4, 2], ["c/s2", "c/s3"]
        )
        say([loss.tolist(), error_signal[:, 0].tolist()])
    say(sent is None or sent.result().loss == 1.5)
