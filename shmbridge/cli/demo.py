"""`shmbridge demo`: a network learns, with refsprint's CTC for its loss."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import count

__all__ = ["Epoch", "add_arguments", "run"]

_BATCH = 8
_LEARNING_RATE = 0.02  # for the sum over a batch


@dataclass(frozen=True)
class Epoch:
    """What came of one pass over the segments.

    Attributes:
        number: from 1.
        loss_per_frame: in nats, from Sprint.
        label_error_rate: edit distance of the best path's labels to what was said, over what was said.
    """

    number: int
    loss_per_frame: float
    label_error_rate: float


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


def train(pool: Any, task: Any, epochs: int) -> Iterator[Epoch]:
    """Train one layer and a softmax by gradient descent: Sprint's error signal is the gradient of its output.

    Yields:
        Each epoch, when it is over.
    """
    import numpy as np

    from .made_up import PHONEMES

    utterances = task.utterances
    # A one for each frame is the input of the biases.
    inputs = [
        np.concatenate([u.features, np.ones((len(u.features), 1), np.float32)], axis=1) for u in utterances
    ]
    weights = np.zeros((inputs[0].shape[1], len(PHONEMES)), np.float32)
    random = np.random.default_rng(0)
    for number in range(1, epochs + 1):
        loss, errors = 0.0, 0
        order = random.permutation(len(utterances)).tolist()
        for begin in range(0, len(order), _BATCH):
            batch = order[begin : begin + _BATCH]
            lengths = np.array([len(inputs[i]) for i in batch])
            padded = np.zeros((lengths.max(), len(batch), inputs[0].shape[1]), np.float32)
            for b, i in enumerate(batch):
                padded[: lengths[b], b] = inputs[i]
            logits = padded @ weights
            log_posteriors = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            losses, error_signal = pool.get_batch_loss_and_error_signal(
                log_posteriors, lengths, [utterances[i].name for i in batch]
            )
            weights -= _LEARNING_RATE * np.einsum("tbi,tbl->il", padded, error_signal)
            loss += float(losses.sum())
            for b, i in enumerate(batch):
                path = log_posteriors[: lengths[b], b].argmax(axis=-1).tolist()
                said = [label for label, _ in itertools.groupby(path) if label != len(PHONEMES) - 1]
                errors += _edit_distance(said, utterances[i].phonemes)
        yield Epoch(
            number,
            loss / sum(len(x) for x in inputs),
            errors / sum(len(u.phonemes) for u in utterances),
        )


def _edit_distance(one: list[int], other: tuple[int, ...]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
