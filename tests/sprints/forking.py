"""A Sprint whose Python forks while it computes a segment, and goes on when the fork has ended.

Settings: `how` says what the fork does, `way` who calls: "loop", "iterate" or "layer".
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import prelude
from prelude import CONFIG, SEEN, init, process, save_seen, segment_list, setting

import sprint_entry

SEEN["codes"] = []
HOW = setting("how")


def is_fork() -> bool:
    """Fork; return True in the fork. Return False in Sprint, after the fork has ended."""
    pid = os.fork()
    if pid == 0:
        return True
    SEEN["codes"].append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return False


def callback(command: str, **arguments: Any) -> Any:
    """Answer as prelude does, but fork first."""
    if command == "calculate_criterion" and is_fork():
        if HOW == "exits":
            sys.exit(0)
        if HOW == "raises":
            raise ArithmeticError("of the fork")
        if HOW == "skips":
            return None, None
    return prelude.callback(command, **arguments)


def iterate() -> None:
    """Process the segments in the trainer's order."""
    for name in segment_list():
        process(control, name)


def use_layer() -> None:
    """Run a Python layer, and fork before its error signal is passed on."""
    layer = sprint_entry.SprintNnPythonLayer(config=CONFIG)
    layer.setOutputDimension(size=4)
    layer.setInputDimension(stream=0, size=5)
    for name in segment_list():
        control.init_segment(segment_name=name)
        output = layer.forward(input=[np.zeros((5, 3), np.float32, order="F")])
        control.notify_segment_loss(segment_name=None, loss=1.5)
        if is_fork() and HOW == "exits":
            sys.exit(0)
        layer.backpropagate(errorSignalIn=np.asfortranarray(2 * output))


control = init(callback=callback)
if setting("way") == "loop":
    control.run_control_loop(callback=callback)
else:
    {"iterate": iterate, "layer": use_layer}[setting("way")]()
save_seen()
