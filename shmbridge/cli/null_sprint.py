"""A Sprint whose criterion computes nothing, so that only the exchange is measured.

    python -m shmbridge.cli.null_sprint --*.pymod-path=DIR --*.pymod-name=MODULE --*.pymod-config=CONFIG …

It supports the control loop only.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["error_signal_for", "main"]

Array = np.ndarray[Any, np.dtype[Any]]


def error_signal_for(posteriors: Array) -> Array:
    """Return a new error signal for posteriors (label,time), with the strides of Sprint's.

    Only one float is written, a copy from the posteriors. It proves to the parent that both matrices arrived.
    """
    error_signal = np.empty(posteriors.shape, np.float32, order="F")
    error_signal[0, 0] = posteriors[0, 0]
    return error_signal


def _callback(command: str, **arguments: Any) -> Any:
    if command == "calculate_criterion":
        return 1.0, error_signal_for(arguments["posteriors"])
    if command == "get_orthography_by_segment_name":
        return "nothing "
    if command == "version":
        return "<version>null Sprint of shmbridge</version>"
    raise ValueError(f"unknown command {command!r} [bad-call]")


def main(arguments: list[str], callback: Callable[..., Any] = _callback) -> None:
    """Import the module that the options name, and run its control loop with Sprint's callback."""
    options = dict(word[len("--*.") :].partition("=")[::2] for word in arguments)
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
