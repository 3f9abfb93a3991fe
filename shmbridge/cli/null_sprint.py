"""A Sprint whose criterion computes nothing, so that only the exchange is measured.

    python -m shmbridge.cli.null_sprint --*.pymod-path=DIR --*.pymod-name=MODULE --*.pymod-config=CONFIG …

It supports the control loop only.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Import the module that the options name, and run its control loop."""
    options = dict(word[len("--*.") :].partition("=")[::2] for word in arguments)
    sys.path.insert(0, options["pymod-path"])
    module = importlib.import_module(options["pymod-name"])
    control = module.init(
        name="Sprint.PythonControl",
        sprint_unit="NnTrainer.pythonControl",
        reference=object(),
        callback=_callback,
        version_number=5,
        config=options["pymod-config"],
    )
    control.run_control_loop(callback=_callback)
    control.exit()


def _callback(command: str, **arguments: Any) -> Any:
    if command == "calculate_criterion":
        posteriors = arguments["posteriors"]
        # A new array in Fortran order, as Sprint returns. The copied number proves that the matrix arrived.
        error_signal = np.empty(posteriors.shape, np.float32, order="F")
        error_signal[0, 0] = posteriors[0, 0]
        return 0.0, error_signal
    if command == "get_orthography_by_segment_name":
        return "nothing "
    if command == "version":
        return "<version>null Sprint of shmbridge</version>"
    raise ValueError(f"unknown command {command!r} [bad-call]")


if __name__ == "__main__":
    main(sys.argv[1:])
