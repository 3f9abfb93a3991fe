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
    """Train, tell about it, and return the exit code: 0, 1 after an error, 130 after Ctrl-C."""
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
        description="Train a small acoustic model; loss and error signal come from Sprint through shmbridge.",
    )
    parser.add_argument("--epochs", type=_positive, default=18, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--instances", type=_positive, default=2, help="Sprint children; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder; default: %(default)s")
    parser.add_argument("--sprint", metavar="PATH", help="a real nn-trainer; default: shmbridge's refsprint")
    parser.add_argument(
        "--sprint-config",
        metavar='"--*.OPTION=VALUE ..."',
        type=_words,
        default=[],
        help="more options for Sprint: a real one needs its acoustic model, for instance",
    )
    return parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Make one argument of --sprint-config and its value: argparse would take the value for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sprint-config":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"cannot be split into words: {error}") from None


def _run(options: argparse.Namespace) -> None:
    console = Console(highlight=False, soft_wrap=True)
    options.out.mkdir(parents=True, exist_ok=True)
    corpus = data.load()
    console.print(report.data_line(corpus))
    history: list[train.Epoch] = []
    with SprintInstancePool(
        sprint_exec_path=sprint.executable(options.sprint),
        sprint_config=sprint.config(options.sprint_config),
        num_instances=options.instances,
    ) as pool:
        exchange = train.Exchange(pool)
        start = time.perf_counter()
        console.print(report.epoch_header())
        with report.progress_bar(console) as bar:
            task = bar.add_task("training", total=options.epochs * len(corpus.train))
            for epoch in train.train(
                corpus, exchange, options.epochs, options.seed, lambda segments: bar.advance(task, segments)
            ):
                history.append(epoch)
                bar.console.print(report.epoch_line(epoch, options.epochs))
        seconds = time.perf_counter() - start
        console.print(report.summary(pool, exchange.seconds, history[-1], seconds))
    picture = options.out / "learning-curve.png"
    report.draw(history, picture)
    console.print(f"learning curve: {picture}")
