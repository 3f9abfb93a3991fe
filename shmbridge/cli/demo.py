"""`shmbridge demo`: a network learns, with refsprint's CTC for its loss."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from .arguments import count

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `shmbridge demo` takes."""
    parser.add_argument(
        "--segments", type=count, metavar="N", default=48, help="utterances; default: %(default)s"
    )
    parser.add_argument(
        "--epochs", type=count, metavar="N", default=12, help="passes over them; default: %(default)s"
    )
    parser.add_argument(
        "--children", type=count, metavar="N", default=2, help="Sprint processes; default: %(default)s"
    )


def run(options: argparse.Namespace) -> int:
    """Train, and show how it went."""
    from shmbridge.parent import SprintInstancePool

    from .made_up import Task
    from .training import train

    task = Task(options.segments, seed=1)
    with tempfile.TemporaryDirectory(prefix="shmbridge-demo-") as folder:
        config = task.write(Path(folder))
        with SprintInstancePool(
            sprint_exec_path=[sys.executable, "-m", "shmbridge.refsprint"],
            sprint_config=config,
            num_instances=options.children,
            ring_size=1 << 20,
        ) as pool:
            epochs = train(pool, task, options.epochs)
            if options.json:
                history = list(epochs)
            else:
                from . import show

                history = show.demo_epochs(epochs, options.epochs)
        stats = pool.stats()
    if options.json:
        report = {
            "epochs": [dataclasses.asdict(epoch) for epoch in history],
            "stats": dataclasses.asdict(stats),
        }
        print(json.dumps(report))
    else:
        show.demo_result(history, stats)
    return 0
