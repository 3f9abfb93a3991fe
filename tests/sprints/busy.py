"""A Sprint that is busy forever at its first segment, or before it.

The setting `how` is a key of WAYS, or "before the first segment". When Sprint becomes busy, it appends "x" to
the file of the setting `mark`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import prelude
from prelude import setting


def loop() -> None:
    """Loop in Python."""
    while True:
        pass


def compute() -> None:
    """Loop in C, with the GIL."""
    sum(itertools.repeat(0))


WAYS: dict[str, Callable[[], object]] = {
    "sleeps": threading.Event().wait,
    "computes in C with the GIL": compute,
    "loops in Python": loop,
}


def note() -> None:
    """Create the mark, or append to it."""
    with open(setting("mark"), "a") as file:
        file.write("x")


def callback(command: str, **arguments: Any) -> Any:
    """Never return from the criterion."""
    if command == "calculate_criterion":
        note()
        WAYS[setting("how")]()
    return prelude.callback(command, **arguments)


control = prelude.init()
if setting("how") == "before the first segment":
    note()
    compute()
control.run_control_loop(callback=callback)
