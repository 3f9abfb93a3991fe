"""A Sprint whose other thread requests losses by own_threaded_callback.

The setting `case` is a key of CASES.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from prelude import SEEN, attempt, callback, init, process, save_seen, segment_list, setting

control = init()


def ask(name: str, frames: int = 3) -> list[Any]:
    """Return loss and error signal of a segment."""
    loss, error_signal = control.own_threaded_callback(
        "get_loss_and_error_signal",
        seg_name=name,
        seg_len=frames,
        posteriors=np.full((3, 4), -1.0, np.float32),
    )
    return [loss, np.asarray(error_signal).tolist()]


def start(function: Callable[[], object]) -> threading.Thread:
    """Start a thread that calls the function."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def while_iterating() -> None:
    """Request answers and errors while this thread iterates."""

    def request() -> None:
        SEEN["version"] = control.own_threaded_callback("version")
        SEEN["answer"] = ask("c/s2")
        SEEN["unknown"] = attempt(lambda: ask("c/unknown"))
        SEEN["wrong"] = attempt(lambda: ask("c/s2", frames=4))
        SEEN["command"] = attempt(lambda: control.own_threaded_callback("dance"))
        open(setting("done"), "w").close()

    thread = start(request)
    for name in segment_list():
        process(control, name)
        if name == "c/s1":  # the parent's segment
            SEEN["own thread"] = attempt(lambda: ask("c/s2"))
    thread.join()


def in_control_loop() -> None:
    """Request an answer from the control loop."""
    answered = threading.Event()

    def request() -> None:
        SEEN["answer"] = ask("any/name")
        answered.set()

    thread = start(request)
    while not answered.is_set():
        control.handle_next()
    control.run_control_loop(callback=callback)
    thread.join()


def skipped() -> None:
    """Request a segment that Sprint skips."""
    thread = start(lambda: SEEN.update(answer=ask("c/s2")))
    for name in segment_list():
        if name != "c/s2":
            process(control, name)
        thread.join(0 if name == "c/s2" else None)


def exception() -> None:
    """Request a segment at which Sprint's callback raises."""

    def broken(_command: str, **_arguments: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    init(callback=broken)
    thread = start(lambda: SEEN.update(answer=attempt(lambda: ask("c/s2"))))
    names = segment_list()
    process(control, next(names))
    thread.join()
    init()
    for name in names:
        process(control, name)


def after_close() -> None:
    """Request an answer when the parent has closed."""
    for name in segment_list():
        process(control, name)
    start(lambda: SEEN.update(late=attempt(lambda: ask("c/s2")))).join()


CASES: dict[str, Callable[[], None]] = {
    "while iterating": while_iterating,
    "in the control loop": in_control_loop,
    "skipped": skipped,
    "exception": exception,
    "after close": after_close,
}
CASES[setting("case")]()
save_seen()
