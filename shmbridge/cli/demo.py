"""`shmbridge demo`: train a network with refsprint's CTC criterion."""

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
    """Add the arguments of `shmbridge demo`."""
    for name, default, meaning in (
        ("--segments", 48, "number of segments in the corpus"),
        ("--epochs", 12, "number of passes over the corpus"),
        ("--children", 2, "number of Sprint children"),
    ):
        parser.add_argument(
            name, type=count, metavar="N", default=default, help=f"{meaning} (default: %(default)s)"
        )


def run(options: argparse.Namespace) -> int:
    """Train, and print the loss of each epoch."""
    from shmbridge.parent import SprintInstancePool

    from .synthetic import SyntheticCorpus
    from .training import train

    corpus = SyntheticCorpus(options.segments, seed=1)
    with tempfile.TemporaryDirectory(prefix="shmbridge-demo-") as folder:
        config = corpus.write(Path(folder))
        with SprintInstancePool(
            sprint_exec_path=[sys.executable, "-m", "shmbridge.refsprint"],
            sprint_config=config,
            num_instances=options.children,
            ring_size=1 << 20,
        ) as pool:
            epochs = train(pool, corpus, options.epochs)
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
