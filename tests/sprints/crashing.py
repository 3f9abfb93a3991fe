"""A Sprint that ends by a signal in its criterion. Settings: `segment` and `signal`, their names."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

import prelude
from prelude import setting

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def callback(command: str, **arguments: Any) -> Any:
    """End at the segment, or answer as prelude does."""
    if command == "calculate_criterion" and arguments["segment_name"] == setting("segment"):
        print("a lattice is broken", flush=True)
        os.kill(os.getpid(), signal.Signals[setting("signal")])
        signal.pause()
    return prelude.callback(command, **arguments)


prelude.init().run_control_loop(callback=callback)
