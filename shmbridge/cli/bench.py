"""`shmbridge bench`: measure the exchange with a Sprint that computes nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform

from shmbridge import __version__

from .arguments import seconds, shape

__all__ = ["add_arguments", "run"]

_SIZES = ((10, 10), (100, 1000), (1000, 5000))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `shmbridge bench`."""
    default = " ".join(f"{rows}x{columns}" for rows, columns in _SIZES)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=shape,
        default=_SIZES,
        metavar="TIMExLABEL",
        help=f"shapes of the matrices (default: {default})",
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=1.0,
        metavar="S",
        help="duration for each way and size (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Measure and print the figures."""
    # Imported here: `shmbridge doctor` must start even if NumPy or the C part is broken.
    import numpy as np

    from .exchange import TURNS, WAYS, Figures, measure

    figures: list[Figures] = []
    if options.json:
        for rows, columns in options.sizes:
            figures += measure(rows, columns, options.seconds, lambda _: None)
        machine = {
            "shmbridge": __version__,
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        print(json.dumps({"machine": machine, "figures": [dataclasses.asdict(each) for each in figures]}))
        return 0
    from . import show

    with show.progress("measuring", len(options.sizes) * TURNS) as advance:
        for rows, columns in options.sizes:
            figures += measure(rows, columns, options.seconds, advance)
    show.bench_figures(figures, WAYS)
    return 0
