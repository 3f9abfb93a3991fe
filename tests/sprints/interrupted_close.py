"""A trainer that a Ctrl-C interrupts in close(); it then closes the pool, and stays until its input ends."""

from __future__ import annotations

import sys
import threading

import shmbridge
from support.trainer import OPTIONS, say

pool = shmbridge.SprintInstancePool(**OPTIONS)
try:
    pool.close()
except KeyboardInterrupt:
    say("KeyboardInterrupt")
say([thread.name for thread in threading.enumerate() if "shmbridge" in thread.name])
pool.close()
say("closed")
sys.stdin.read()
