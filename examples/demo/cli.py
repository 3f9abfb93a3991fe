"""The command line."""

from __future__ import annotations

import argparse
import copy
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from rich.console import Console

from shmbridge import ShmbridgeError, SprintInstancePool

from . import data, lattices, report, sprint, train
from .minimum_error import MinimumError

_MIN_EPOCHS = 2  # of --criterion me: its part is a half


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
        "--criterion",
        choices=("ctc", "me"),
        default="ctc",
        help="me: use minimum phone error in the last half of the epochs, and compare the result with CTC "
        "alone; takes about twice as long (default: %(default)s)",
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
        "--lattice-sprint",
        metavar="PATH",
        help="a lattice-processor executable (default: ref-lattice-processor, the stand-in for it)",
    )
    parser.add_argument(
        "--sprint-config",
        metavar='"--*.OPTION=VALUE ..."',
        type=_words,
        default=[],
        help="further options for Sprint; a real nn-trainer needs its acoustic model and state tying",
    )
    options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if options.criterion == "me" and options.epochs < _MIN_EPOCHS:
        parser.error(f"--epochs is {options.epochs}; with --criterion me it must be at least {_MIN_EPOCHS}")
    return options


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
    with SprintInstancePool(
        sprint_exec_path=sprint.executable(options.sprint),
        sprint_config=sprint.config(options.sprint_config),
        num_instances=options.children,
    ) as pool:
        run = _Run(options, console, corpus, train.Exchange(pool))
        start = time.perf_counter()
        histories = run.compare() if options.criterion == "me" else {"CTC": run.ctc()}
        seconds = time.perf_counter() - start
        console.print(report.summary(pool, run.exchange.seconds, histories, seconds))
    picture = options.out / "learning-curve.png"
    report.draw(histories, picture)
    console.print(f"learning curve: {picture}")


class _Run:
    def __init__(
        self, options: argparse.Namespace, console: Console, corpus: data.Corpus, exchange: train.Exchange
    ) -> None:
        self._options = options
        self._console = console
        self._corpus = corpus
        self.exchange = exchange
        self._state = train.begin(corpus, options.seed)

    def ctc(self) -> list[train.Epoch]:
        """Train with CTC alone."""
        return self._train(self._state, range(1, self._options.epochs + 1), self.exchange)

    def compare(self) -> dict[str, list[train.Epoch]]:
        """Train with CTC, and then the same network twice: with CTC alone, and with minimum error."""
        epochs = self._options.epochs
        first_of_me = epochs - epochs // 2 + 1
        shared = self._train(self._state, range(1, first_of_me), self.exchange)
        numbers = range(first_of_me, epochs + 1)
        state = copy.deepcopy(self._state)
        histories = {"CTC": shared + self._train(self._state, numbers, self.exchange)}
        self._console.print("writing lattices of the training segments")
        config_file = lattices.write(
            self._options.out / "lattices",
            self._corpus,
            lattices.make(self._corpus, state.model, state.rng),
        )
        with SprintInstancePool(
            sprint_exec_path=sprint.lattice_executable(self._options.lattice_sprint),
            sprint_config=sprint.lattice_config(config_file, self._corpus.labels),
            num_instances=self._options.children,
        ) as pool:
            criterion = MinimumError(self.exchange, train.Exchange(pool))
            histories["CTC, then minimum error"] = shared + self._train(state, numbers, criterion)
            self._console.print(report.format_lattices(pool.stats()))
        return histories

    def _train(
        self, state: train.State, numbers: Sequence[int], criterion: train.Criterion
    ) -> list[train.Epoch]:
        history = []
        epochs = self._options.epochs
        self._console.print(report.EPOCH_HEADER)
        with report.progress_bar(self._console) as bar:
            task = bar.add_task("training", total=len(numbers) * len(self._corpus.train))
            for epoch in train.train(
                self._corpus,
                state,
                numbers,
                epochs,
                criterion,
                self.exchange,
                lambda segments: bar.advance(task, segments),
            ):
                history.append(epoch)
                bar.console.print(report.format_epoch(epoch, epochs))
        return history
