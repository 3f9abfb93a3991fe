"""Record each call of a module that Sprint calls, with the types of its arguments.

RECORDED_CALLS in the environment names the file, a line of JSON for each call: its name, and of each argument
the type and value; of an array its shape and dtype, and whether it is in Fortran order, may be written to and
owns its data.
"""

from __future__ import annotations

import json
import os
import resource
from typing import Any

import numpy as np

# A Sprint that aborts must not leave a core file.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def describe(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        flags = value.flags
        matrix = [flags.f_contiguous, flags.writeable, flags.owndata]
        return ["ndarray", list(value.shape), str(value.dtype), *matrix]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [describe(item) for item in value]]
    if isinstance(value, bytes):
        return ["bytes", value.decode()]
    if value is None or isinstance(value, (bool, int, float, str)):
        return [type(value).__name__, value]
    return ["object", type(value).__name__]


def record(_call: str, **arguments: Any) -> None:
    line = json.dumps([_call, {key: describe(value) for key, value in arguments.items()}])
    with open(os.environ["RECORDED_CALLS"], "a", encoding="utf-8") as file:
        file.write(line + "\n")
