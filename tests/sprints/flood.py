"""A Sprint that sends many control messages during its first segment, and then creates a file.

Settings: `kind` of the messages, their number `count`, and the length `filler` of a field that the trainer
ignores; `mark` is the file. If `exit_code` is not empty, Sprint then exits with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import prelude
from prelude import setting

from shmbridge import protocol

MARK, KIND = setting("mark"), setting("kind")
FIELDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "dimension": lambda number: {"num_labels": number + 4},
    "no_room": lambda number: {"sequence": 1, "released": number},
    "exception": lambda number: {
        "exception_type": "KeyError",
        "message": f"number {number}",
        "traceback": "",
    },
    "hello": lambda _number: {"protocol": protocol.PROTOCOL_VERSION, "abi": 1},
}


def callback(command: str, **arguments: Any) -> Any:
    """Send the messages unless the mark exists; then answer as prelude does."""
    if command == "calculate_criterion" and not os.path.exists(MARK):
        filler = "x" * int(setting("filler"))
        for number in range(int(setting("count"))):
            control.link.send(KIND, filler=filler, **FIELDS[KIND](number))
        open(MARK, "w").close()
        if setting("exit_code"):
            os._exit(int(setting("exit_code")))
    return prelude.callback(command, **arguments)


control = prelude.init()
control.run_control_loop(callback=callback)
