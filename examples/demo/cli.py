"""The command line."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rich.console import Console

from shmbridge import ShmbridgeError, SprintInstancePool

from . import data, report, sprint, train


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Train, print a report, and return the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    options = _parse(arguments)
    try:
        _run(options)
    except (ShmbridgeError, data.DataError, train.TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Train a small acoustic model. Sprint computes the loss and the error signal; shmbridge "
        "passes them through shared memory. With the defaults, this takes about 20 s on two free cores.",
    )
    parser.add_argument(
        "--epochs", metavar="N", type=_positive, default=18, help="number of epochs (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=1, help="seed of the training (default: %(default)s)"
    )
    parser.add_argument(
        "--children",
        metavar="N",
        type=_positive,
        default=2,
        help="number of Sprint children (default: %(default)s)",
    )
    parser.add_argument(
        "--instances", dest="children", type=_positive, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("demo-out"),
        help="folder for the picture of the learning curve (default: %(default)s)",
    )
    parser.add_argument(
        "--sprint", metavar="PATH", help="an nn-trainer executable (default: refsprint, the stand-in for it)"
    )
    parser.add_argument(
        "--sprint-config",
        metavar='"--*.OPTION=VALUE ..."',
        type=_words,
        default=[],
        help="further options for Sprint; a real nn-trainer needs its acoustic model and state tying",
    )
    return parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join --sprint-config and its value, because argparse treats the value as another option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sprint-config":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be split into words: {error}") from None


def _run(options: argparse.Namespace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    options.out.mkdir(parents=True, exist_ok=True)
    corpus = data.load()
    console.print(report.format_corpus(corpus))
    history: list[train.Epoch] = []
    with SprintInstancePool(
        sprint_exec_path=sprint.executable(options.sprint),
        sprint_config=sprint.config(options.sprint_config),
        num_instances=options.children,
    ) as pool:
        exchange = train.Exchange(pool)
        start = time.perf_counter()
        console.print(report.EPOCH_HEADER)
        with report.progress_bar(console) as bar:
            task = bar.add_task("training", total=options.epochs * len(corpus.train))
            for epoch in train.train(
                corpus, exchange, options.epochs, options.seed, lambda segments: bar.advance(task, segments)
            ):
                history.append(epoch)
                bar.console.print(report.format_epoch(epoch, options.epochs))
        seconds = time.perf_counter() - start
        console.print(report.summary(pool, exchange.seconds, history[-1], seconds))
    picture = options.out / "learning-curve.png"
    report.draw(history, picture)
    console.print(f"learning curve: {picture}")
