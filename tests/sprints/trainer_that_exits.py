"""A trainer whose interpreter ends while another thread starts a pool.

Settings: `mark` is the file that Sprint creates; `end` is how the main thread ends.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

said = threading.Event()


def at_the_end() -> None:
    """Report the threads of shmbridge. atexit calls the first registered function last."""
    said.wait(60)
    say([thread.name for thread in threading.enumerate() if "shmbridge" in thread.name])


def start() -> None:
    """Start a pool, and report why it does not start."""
    try:
        shmbridge.SprintInstancePool(**OPTIONS)
    except shmbridge.ClosedError as error:
        say(str(error))
        said.set()


atexit.register(at_the_end)
threading.Thread(target=start, daemon=True).start()
while not os.path.exists(SETTINGS["mark"]):
    pass
if SETTINGS["end"] == "sys.exit":
    sys.exit(0)
if SETTINGS["end"] == "SystemExit":
    raise SystemExit(0)
