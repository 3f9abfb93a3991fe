"""A Sprint that takes its time for each segment.

Settings: `seconds` for each segment; `mark` is a file that Sprint then creates, or empty.
"""

from __future__ import annotations

import time
from typing import Any

import prelude
from prelude import setting


def callback(command: str, **arguments: Any) -> Any:
    """Create the mark, sleep, and answer as prelude does."""
    if command == "calculate_criterion":
        if setting("mark"):
            open(setting("mark"), "w").close()
        time.sleep(float(setting("seconds")))
    return prelude.callback(command, **arguments)


prelude.init().run_control_loop(callback=callback)
