"""Runs the bridge under load, and with Sprints and forks that die at random, for minutes: python tests/soak.

First the ring alone, in C, then pools with real children (rounds.py). What fails can be
run again with its seed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from soak import FailedError, soak_pools, soak_ring

RING_SHARE = 0.2  # of the time


class Screen:
    """The display: a bar over the time, and the progress of the current part."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/]"),
            console=console,
        )

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, what: str, seconds: float) -> Callable[[str], None]:
        """Begin a part of this duration, and return a function that shows a text about its progress."""
        task = self._bar.add_task(what, total=seconds, detail="")
        began = time.monotonic()
        return lambda detail: self._bar.update(task, completed=time.monotonic() - began, detail=detail)


def in_words(step: dict[str, Any]) -> str:
    counts = Counter(step["counts"])
    return (
        f"round {step['round']} ({step['kind']}): {counts['answered']:,} segments, "
        f"{counts['kills']} kills, {counts['forks']} forks"
    )


def main() -> None:
    """Run all parts, and print the command that repeats a failed one."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180, help="all in all (default: 180)")
    parser.add_argument("--seed", type=int, help="of everything (default: a new one)")
    parser.add_argument("--round", type=int, help="this round of the pools alone, which failed before")
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    console = Console()
    console.print(f"seed {seed}", highlight=False)
    counts: Counter[str] = Counter()
    try:
        with tempfile.TemporaryDirectory(prefix="shmbridge-soak-") as folder, Screen(console) as screen:
            rounds = [f"--seed={seed}"]
            if arguments.round is None:
                seconds = arguments.seconds * RING_SHARE
                counts = soak_ring(seed, seconds, screen.begin("ring ", seconds))
                rounds.append(f"--seconds={arguments.seconds - seconds}")
            else:
                rounds += [f"--first={arguments.round}", "--rounds=1"]
            show = screen.begin("pools", arguments.seconds * (1 - RING_SHARE))
            end = soak_pools(rounds, Path(folder), lambda step: show(in_words(step)))
    except FailedError as error:
        console.print(str(error), markup=False, highlight=False)
        raise SystemExit(
            f"FAILED with the seed {seed}; again: make soak ARGS=--seed={seed}, "
            "and with --round=N that round alone"
        ) from None
    for name, count in sorted((counts + Counter(end["counts"])).items()):
        console.print(f"{count:>16,} {name}", highlight=False)
    console.print(f"{end['growth'] / 1e6:>16.1f} MB more in the trainer than after its first rounds")


if __name__ == "__main__":
    main()
