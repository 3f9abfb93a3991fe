"""The least that can be called a Sprint: an executable that runs a PythonControl over a null criterion.

Both shmbridge and RETURNN start it, with the options with which they start an nn-trainer in the control
loop. It reads no corpus and no model, so what is measured around it is the exchange and nothing else.

    python minimal_sprint.py --*.pymod-path=DIR --*.pymod-name=MODULE --*.pymod-config=CONFIG [ignored ...]

The environment variable BENCH_CRITERION makes the criterion take its time: `sleep:N` or `busy:N`, N in ms.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Optional

CRITERION_VARIABLE = "BENCH_CRITERION"

if __name__ == "__main__":
    # As a script it has benchmarks/ itself on the path, whose modules nobody else is to import by accident.
    sys.path.pop(0)

import numpy as np  # noqa: E402

Array = np.ndarray[Any, np.dtype[Any]]


def error_signal_for(posteriors: Array) -> Array:
    """A new error signal for posteriors (label,time), with the strides that Sprint's have.

    Its contents stay as numpy's allocation left them, but for one float, which is taken from the
    posteriors: it shows the parent that both matrices have arrived.
    """
    error_signal = np.empty(posteriors.shape, np.float32, order="F")
    error_signal[0, 0] = posteriors[0, 0]
    return error_signal


def delay_from(setting: str) -> Optional[Callable[[], None]]:
    """What the criterion does for its N ms: sleep, use a core, or nothing (None).

    Args:
        setting: "", "sleep:N" or "busy:N", N in milliseconds.

    Raises:
        ValueError: it is none of these.
    """
    if not setting:
        return None
    kind, _, milliseconds = setting.partition(":")
    seconds = float(milliseconds) / 1e3
    if kind == "sleep":
        return lambda: time.sleep(seconds)
    if kind == "busy":
        return lambda: _be_busy(seconds)
    raise ValueError(f"{CRITERION_VARIABLE} is {setting!r}; it takes sleep:N or busy:N")


def _be_busy(seconds: float) -> None:
    # Of CPU time and not of wall time: a criterion that has to share its core takes longer.
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def callback_with(delay: Optional[Callable[[], None]]) -> Callable[..., Any]:
    """What Sprint offers to Python: `callback("command", ...)`, as far as a control loop needs it.

    Sprint's own is C++, and costs next to nothing; so this does no more than it must. It is a function
    and no object with `__call__`, since CPython calls that by a detour.
    """

    def callback(command: str, *arguments: Any, posteriors: Any = None, **_others: Any) -> Any:
        if command == "calculate_criterion":  # what shmbridge's child asks
            error_signal = error_signal_for(posteriors)
            if delay is not None:
                delay()
            return 0.0, error_signal
        if command == "get_orthography_by_segment_name":
            return "a "
        if command == "get_loss_and_error_signal":  # what RETURNN's asks: name, frames, (time,label)
            loss, error_signal = callback("calculate_criterion", posteriors=arguments[2].T)
            return loss, error_signal.T
        if command == "version":
            return "<version>minimal Sprint of shmbridge's benchmarks</version>"
        raise ValueError(f"unknown command {command!r}")

    return callback


def main(arguments: list[str]) -> None:
    """Import the module that the options name, and run its control loop."""
    options = dict(argument[len("--*.") :].partition("=")[::2] for argument in arguments if "=" in argument)
    callback = callback_with(delay_from(os.environ.get(CRITERION_VARIABLE, "")))
    sys.path.insert(0, options["pymod-path"])
    module = importlib.import_module(options["pymod-name"])
    control = module.init(
        name="Sprint.PythonControl",
        sprint_unit="NnTrainer.pythonControl",
        reference=object(),
        callback=callback,
        version_number=5,
        config=options["pymod-config"],
    )
    try:
        control.run_control_loop(callback=callback)
    finally:
        control.exit()


if __name__ == "__main__":
    main(sys.argv[1:])
