"""A Sprint whose criterion ends it, or hangs, at the segments for which a file exists.

The setting `folder` names the folder. The file of segment c/s1 is c-s1. It has an action and how often it is
taken, such as "kill 1".
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from prelude import init, setting

FOLDER = Path(setting("folder"))


def hang() -> None:
    """Never return."""
    while True:
        time.sleep(1)


def fail() -> None:
    """Raise, as the user's code in Sprint may."""
    raise RuntimeError("for a change")


ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "hang": hang,
    "raise": fail,
}


def act(name: str) -> None:
    """Take the action in the segment's file, and count it."""
    file = FOLDER / name.replace("/", "-")
    if not file.exists():
        return
    action, times = file.read_text().split()
    if int(times) > 1:
        file.write_text(f"{action} {int(times) - 1}")
    else:
        file.unlink()
    print("at", name, "it will", action, flush=True)
    ACTIONS[action]()


def callback(command: str, **arguments: Any) -> Any:
    """Return the sum of the posteriors, and twice the posteriors."""
    if command != "calculate_criterion":
        return {"version": "v", "get_orthography_by_segment_name": "word "}[command]
    act(arguments["segment_name"])
    posteriors = arguments["posteriors"]
    return float(posteriors.sum()), np.asfortranarray(2 * posteriors)


init().run_control_loop(callback=callback)
