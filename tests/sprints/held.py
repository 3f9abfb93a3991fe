"""A Sprint that does not start, or does not answer, while a file exists.

The settings `start` and `segment` name the two files.
"""

from __future__ import annotations

import os
import time
from typing import Any

import prelude
from prelude import setting


def wait_while_exists(path: str) -> None:
    """Wait until the file is removed."""
    while os.path.exists(path):
        time.sleep(0.005)


def callback(command: str, **arguments: Any) -> Any:
    """Wait, and answer as prelude does."""
    if command == "calculate_criterion":
        wait_while_exists(setting("segment"))
    return prelude.callback(command, **arguments)


wait_while_exists(setting("start"))
prelude.init().run_control_loop(callback=callback)
