"""A minimal Sprint: an executable that runs a PythonControl with a null criterion.

Both shmbridge and RETURNN start it with the options of an nn-trainer in the control loop. It reads no corpus
and no model, so that only the exchange is measured.

    python minimal_sprint.py --*.pymod-path=DIR --*.pymod-name=MODULE --*.pymod-config=CONFIG [ignored ...]

The environment variable BENCH_CRITERION sets the duration of the criterion: `sleep:N` or `busy:N`, N in ms.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Optional

CRITERION_VARIABLE = "BENCH_CRITERION"

if __name__ == "__main__":
    # Python puts a script's folder on the path; the modules of benchmarks/ must not be importable from there.
    sys.path.pop(0)

from shmbridge.cli.null_sprint import error_signal_for, main  # noqa: E402


def delay_from(setting: str) -> Optional[Callable[[], None]]:
    """Return a function that sleeps or uses a core for N ms, or None.

    Args:
        setting: "", "sleep:N" or "busy:N", N in milliseconds.

    Raises:
        ValueError: the setting has another form.
    """
    if not setting:
        return None
    kind, _, milliseconds = setting.partition(":")
    seconds = float(milliseconds) / 1e3
    if kind == "sleep":
        return lambda: time.sleep(seconds)
    if kind == "busy":
        return lambda: _be_busy(seconds)
    raise ValueError(f"{CRITERION_VARIABLE} is {setting!r}; it must be sleep:N or busy:N")


def _be_busy(seconds: float) -> None:
    # CPU time, not wall time: a criterion that shares its core takes longer.
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def callback_with(delay: Optional[Callable[[], None]]) -> Callable[..., Any]:
    """Return Sprint's callback, `callback("command", ...)`, with the commands of a control loop.

    Sprint's own callback is C++ and costs almost nothing, so this one must be cheap. It is a function,
    because CPython calls an object with `__call__` more slowly.
    """

    def callback(command: str, *arguments: Any, posteriors: Any = None, **_others: Any) -> Any:
        if command == "calculate_criterion":  # from shmbridge's child
            error_signal = error_signal_for(posteriors)
            if delay is not None:
                delay()
            return 1.0, error_signal  # a loss of 0 would have the pool look at the error signal
        if command == "get_orthography_by_segment_name":
            return "a "
        if command == "get_loss_and_error_signal":  # from RETURNN's child: name, frames, (time,label)
            loss, error_signal = callback("calculate_criterion", posteriors=arguments[2].T)
            return loss, error_signal.T
        if command == "version":
            return "<version>minimal Sprint of shmbridge's benchmarks</version>"
        raise ValueError(f"unknown command {command!r}")

    return callback


if __name__ == "__main__":
    main(sys.argv[1:], callback_with(delay_from(os.environ.get(CRITERION_VARIABLE, ""))))
