"""A Sprint that fails at a segment; the segment's name selects how.

It does not start if the file of the setting `mark` exists.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import prelude
from prelude import setting


def callback(command: str, **arguments: Any) -> Any:
    """Fail, or answer as prelude does."""
    if command == "calculate_criterion":
        name = arguments["segment_name"]
        if name == "c/raises":
            raise KeyError(name)
        if name == "c/dies":
            os._exit(3)
        if name == "c/breaks the protocol":
            control.link.send("exit")
            signal.pause()
        if name == "c/hangs":
            signal.pause()
    return prelude.callback(command, **arguments)


if os.path.exists(setting("mark")):
    sys.exit(4)
control = prelude.init()
control.run_control_loop(callback=callback)
