"""A trainer that keeps arrays in shared memory until the interpreter ends.

The setting `how` is a key of ENDS.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Any

import shmbridge
from support.internals import kill_child
from support.trainer import OPTIONS, SETTINGS, say

pool = shmbridge.SprintInstancePool(**OPTIONS)
claim = pool.claim("c/s1", 300, 100)
posteriors = claim.posteriors
posteriors[:] = 3
result = claim.send().result()
error_signal = result.error_signal
values = error_signal.copy()
open_claim = pool.claim("c/s2", 300, 100)
unsent = open_claim.posteriors
unsent[:] = 7


def check() -> bool:
    """Return whether the arrays have their values."""
    return bool((posteriors == 3).all() and (error_signal == values).all() and (unsent == 7).all())


class AtTheVeryEnd:
    """Checks the arrays when it is collected. Its globals may be deleted by then, but not its attributes."""

    def __init__(self) -> None:
        self.arrays = [(posteriors, 3), (error_signal, 6), (unsent, 7)]
        self.write = os.write

    def __del__(self) -> None:
        right = all(bool((array == value).all()) for array, value in self.arrays)
        self.write(1, b'"at the very end"\n' if right else b'"spoilt"\n')


def read_in_thread() -> None:
    """Start a thread that reads the arrays without end."""

    def read() -> None:
        while True:
            if not check():
                os._exit(9)

    threading.Thread(target=read, daemon=True).start()


def fail() -> None:
    """Raise an exception."""
    raise KeyError("on purpose")


ENDS: dict[str, Callable[[], object]] = {
    "with the pool open": lambda: None,
    "with the pool closed": pool.close,
    "with an exception": fail,
    "with Sprint dead": lambda: kill_child(pool),
    "with a thread that reads on": read_in_thread,
}

at_the_very_end = AtTheVeryEnd()
itself: list[Any] = [at_the_very_end]
itself.append(itself)  # collected when modules are torn down
atexit.register(lambda: say(check() and "at exit"))
ENDS[SETTINGS["how"]]()
