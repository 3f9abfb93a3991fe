"""`python -m benchmarks.rasr --nn-trainer PATH`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from shmbridge import ShmbridgeError
from shmbridge.cli.arguments import count

from .. import leftovers, machine
from ..peers import PeerFailedError
from . import measure, report
from .ways import ALONE, ALONE_TRAINER, BRIDGE, WAYS
from .work import prepare

SCHEMA_VERSION = 1  # of the JSON
TARGET = 1.03
_ALWAYS = (ALONE, ALONE_TRAINER, BRIDGE)
_OPTIONAL = tuple(entry.name for entry in WAYS if entry not in _ALWAYS)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, write the results, and return the exit code: 0, 1 after an error, 130 after Ctrl-C.

    A missed target is not an error, because it depends on the machine.
    """
    options = _parse(arguments)
    # A SIGTERM must also end the nn-trainers and remove files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path: Path = options.out / "rasr.json"
    try:
        leftovers.sweep()
        options.out.mkdir(parents=True, exist_ok=True)
        results = _results(options)
        report.write_json(results, path)
    except (PeerFailedError, ShmbridgeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    for line in report.lines(results):
        print(line)
    print(f"written: {path}")
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rasr",
        description="Measure the time that shmbridge and RETURNN add to RASR's CTC criterion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--nn-trainer", required=True, help="RASR's nn-trainer (examples/rasr/README.md)")
    parser.add_argument(
        "--pythonpath", default=os.environ.get("PYTHONPATH", ""), help="PYTHONPATH of the nn-trainer"
    )
    parser.add_argument("--labels", type=int, default=12000, help="label dimension of the posteriors")
    parser.add_argument("--frames", type=int, default=1000, help="length of each segment")
    parser.add_argument("--segments", type=int, default=6, help="segments per batch")
    parser.add_argument("--rounds", type=count, default=10, help="batches of each way")
    parser.add_argument(
        "--ways",
        nargs="*",
        choices=_OPTIONAL,
        default=_OPTIONAL,
        metavar="WAY",
        help="optional ways to measure",
    )
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="output folder of rasr.json")
    return parser.parse_args(arguments)


def _results(options: argparse.Namespace) -> dict[str, Any]:
    size = {"labels": options.labels, "segments": options.segments, "frames": options.frames}
    entries = [entry for entry in WAYS if entry in _ALWAYS or entry.name in options.ways]
    load = machine.Load()
    with leftovers.temporary_folder() as folder:
        work = prepare(options.nn_trainer, options.pythonpath, Path(folder), **size)
        try:
            ways = measure.measure(work, entries, options.rounds, lambda number: _show_round(number, options))
        finally:
            print(file=sys.stderr)
    ratio = ways[BRIDGE.name]["ratio"]["p50"]
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": machine.describe(),
        "settings": {**size, "rounds": options.rounds},
        "load": load.describe(),
        "ways": ways,
        "target": {
            "what": f"{BRIDGE.title}, over {ALONE.title}, p50",
            "bound": TARGET,
            "value": ratio,
            "reached": ratio <= TARGET,
        },
    }


def _show_round(number: int, options: argparse.Namespace) -> None:
    print(f"\rround {number} of {options.rounds}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
