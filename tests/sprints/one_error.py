"""A Sprint with an error at segment c/s1. The setting `error` is a key of ERRORS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from prelude import init, process, save_seen, segment_list, setting

control = init()


def fail(_command: str, **_arguments: Any) -> Any:
    """Raise, as a callback of Sprint may."""
    raise ZeroDivisionError("on purpose")


def process_with(callback: Callable[..., Any]) -> None:
    """Process the segment with this callback."""
    init(callback=callback)
    process(control, "c/s1")


def answer(value: object) -> None:
    """Process the segment with a callback that returns the value."""
    process_with(lambda command, **arguments: value)


ERRORS: dict[str, Callable[[], None]] = {
    "neither orthography nor alignment": lambda: process(control, "c/s1", orthography=None),
    "an orthography that is not UTF-8": lambda: process(control, "c/s1", orthography=b"\xff"),
    "an exception": lambda: process_with(fail),
    "a loss alone": lambda: answer((1.0, None)),
    "another shape": lambda: answer((1.0, np.ones((4, 7)))),
    "None": lambda: answer(None),
    "complex numbers": lambda: answer((1.0, np.full((4, 3), 1j))),
}

for name in segment_list():
    init()
    if name == "c/s1":
        ERRORS[setting("error")]()
    else:
        process(control, name)
save_seen()
