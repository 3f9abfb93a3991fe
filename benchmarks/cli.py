"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from rich.console import Console

from shmbridge import ShmbridgeError
from shmbridge.cli.arguments import count, shape

from . import leftovers, pictures, report, run
from .peers import ENTRIES
from .settings import FULL, PARTS, QUICK, Settings
from .terminal import Bar

_FILE_WIDTH = 110  # of the tables, if the output is not a terminal


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, write the results, and return the exit code: 0, 1 after an error, 130 after Ctrl-C.

    Missed targets are not errors, because they depend on the machine.
    """
    options = _parse(arguments)
    # A SIGTERM must also end the children and remove shared memory.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    folder: Path = options.out
    try:
        leftovers.sweep()
        folder.mkdir(parents=True, exist_ok=True)
        with Bar(console) as bar:
            results = run.measure(_settings(options), bar)
        report.write_json(results, folder / "results.json")
        written = [folder / "results.json", *pictures.write(results, folder)]
    except (ShmbridgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    for part in report.tables(results):
        console.print(part)
        console.print()
    console.print("written: " + ", ".join(map(str, written)))
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure shmbridge and other ways to do the exchange, all in one run.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and few repetitions, under a minute"
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"any of {', '.join(PARTS)} (default: all)"
    )
    names = [entry.name for entry in ENTRIES]
    parser.add_argument(
        "--peers", nargs="+", choices=names, metavar="PEER", help=f"any of {', '.join(names)} (default: all)"
    )
    parser.add_argument(
        "--sizes", nargs="+", type=shape, metavar="TIMExLABEL", help="shapes of the matrices of the exchange"
    )
    parser.add_argument("--repeat", type=count, help="number of turns of each peer")
    parser.add_argument("--exchanges", type=count, help="number of small exchanges that show the growth")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-out"), help="output folder (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    given: dict[str, Any] = {
        "parts": options.only and tuple(part for part in PARTS if part in options.only),
        "peers": options.peers and tuple(options.peers),
        "sizes": options.sizes and tuple(options.sizes),
        "rounds": options.repeat,
        "exchanges": options.exchanges,
    }
    return dataclasses.replace(
        QUICK if options.quick else FULL, **{name: value for name, value in given.items() if value}
    )
