"""`python -m benchmarks.rasr.lattices`: what the bridge adds to a lattice criterion."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from shmbridge import SprintInstancePool
from shmbridge.cli.arguments import count

from .. import leftovers, machine
from ..percentiles import summarise
from . import agreement, report
from .alone import AloneTrainer
from .bridge import Bridge
from .way import Way
from .work import Work, prepare

SCHEMA_VERSION = 1  # of the JSON
MAX_RATIO = 1.03  # of one child to the same calls without a parent
MIN_EFFICIENCY = 0.90  # of two children, on two cores


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure, write the results, print them, and return the exit code."""
    options = _parse(arguments)
    leftovers.sweep()
    options.out.mkdir(parents=True, exist_ok=True)
    load = machine.Load()
    with leftovers.temporary_folder() as folder:
        work = prepare(
            options.lattice_processor,
            options.pythonpath,
            Path(folder),
            labels=options.labels,
            segments=options.segments,
            frames=options.frames,
            arcs=options.arcs,
        )
        seconds = _measure(work, options.criterion, options.rounds)
    sizes = {
        key: getattr(options, key) for key in ("criterion", "labels", "frames", "segments", "arcs", "rounds")
    }
    results = {
        "schema_version": SCHEMA_VERSION,
        "machine": machine.describe(),
        "settings": sizes,
        "load": load.describe(),
        "ways": {name: summarise(values * 1e9) for name, values in seconds.items()},
        "targets": _targets(seconds),
    }
    report.write_json(results, options.out / "lattices.json")
    _print(results)
    return 0


def _measure(work: Work, criterion: str, rounds: int) -> dict[str, Any]:
    """Return the seconds of a segment in each round, by way. The first round does not count."""
    with contextlib.ExitStack() as stack:
        ways: Mapping[str, Way] = {
            "no parent": stack.enter_context(_Alone(work, criterion)),
            "1 child": stack.enter_context(_Pool(work, criterion, 1)),
            "2 children": stack.enter_context(_Pool(work, criterion, 2)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        names = list(ways)
        for number in range(rounds + 1):
            losses = {}
            for name in names[number % 3 :] + names[: number % 3]:
                done = ways[name].round()
                losses[name] = np.array(done.losses)
                seconds[name].append(done.nanoseconds / 1e9 / len(work.names))
            for name in names[1:]:
                agreement.check_losses(work.names, losses[name], losses[names[0]])
            print(f"\rround {number} of {rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def _targets(seconds: Mapping[str, Any]) -> list[dict[str, Any]]:
    ratio = float(np.median(seconds["1 child"] / seconds["no parent"]))
    efficiency = float(np.median(seconds["1 child"] / seconds["2 children"])) / 2
    return [
        {
            "what": "1 child over no parent",
            "bound": f"<= {MAX_RATIO}",
            "value": ratio,
            "reached": ratio <= MAX_RATIO,
        },
        {
            "what": "2 children over twice 1 child",
            "bound": f">= {MIN_EFFICIENCY}",
            "value": efficiency,
            "reached": efficiency >= MIN_EFFICIENCY,
        },
    ]


def _print(results: Mapping[str, Any]) -> None:
    sizes, load = results["settings"], results["load"]
    print(
        f"{sizes['criterion']}, {sizes['frames']} x {sizes['labels']}, {sizes['arcs']} arcs, "
        f"{sizes['rounds']} rounds; other processes used {load['used_by_others']:.0%} of the cores"
    )
    for name, figures in results["ways"].items():
        values = " ".join(f"{key} {1e3 * figures[key]:.1f}" for key in ("p50", "p90", "p99", "min"))
        print(f"{name:12} ms of a segment: {values}")
    for target in results["targets"]:
        reached = "reached" if target["reached"] else "not reached"
        print(f"{target['what']}: {target['value']:.3f}; {target['bound']}: {reached}")


class _Alone(AloneTrainer):
    """The same calls in the same program, without a parent."""

    def __init__(self, work: Work, criterion: str) -> None:
        super().__init__(work)
        self.config = criterion


class _Pool(Bridge):
    """A pool."""

    def __init__(self, work: Work, criterion: str, children: int) -> None:
        super().__init__(work)
        self.config = criterion
        self._children = children

    def _start(self) -> None:
        work = self.work
        self._error_signal = np.zeros_like(work.posteriors)
        pool = SprintInstancePool(
            work.nn_trainer,
            num_instances=self._children,
            env=work.whole_env,
            **work.files.options(self.config),
        )
        self._pool = self.resources.enter_context(pool)


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rasr.lattices",
        description="Measure the time that shmbridge adds to a lattice criterion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--lattice-processor",
        default="ref-lattice-processor",
        help="RASR's lattice-processor (examples/rasr/README.md); by default its stand-in",
    )
    parser.add_argument(
        "--pythonpath", default=os.environ.get("PYTHONPATH", ""), help="PYTHONPATH of the program"
    )
    parser.add_argument("--criterion", choices=("mmi", "me"), default="mmi")
    parser.add_argument("--labels", type=int, default=2000, help="label dimension of the posteriors")
    parser.add_argument("--frames", type=int, default=400, help="length of each segment")
    parser.add_argument("--arcs", type=int, default=600, help="arcs of each lattice")
    parser.add_argument("--segments", type=int, default=6, help="segments per batch")
    parser.add_argument("--rounds", type=count, default=10, help="batches of each way")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="output folder of lattices.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
