"""Train a network with Sprint's criterion."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shmbridge.parent import SprintInstancePool

from .synthetic import PHONEMES, SyntheticCorpus

__all__ = ["Epoch", "train"]

_BATCH = 8
_LEARNING_RATE = 0.02  # for the sum over a batch
_BLANK = len(PHONEMES) - 1


@dataclass(frozen=True)
class Epoch:
    """The result of one pass over the corpus.

    Attributes:
        number: from 1.
        loss_per_frame: in nats, from Sprint.
        label_error_rate: edit distance between the best path's labels and the reference, divided by the
            number of labels in the reference.
    """

    number: int
    loss_per_frame: float
    label_error_rate: float


def train(pool: SprintInstancePool, corpus: SyntheticCorpus, epochs: int) -> Iterator[Epoch]:
    """Train one linear layer with softmax by gradient descent; the error signal is its output's gradient.

    Yields:
        Each epoch when it is finished.
    """
    utterances = corpus.utterances
    # The constant 1 in each frame is the input of the biases.
    inputs = [np.pad(u.features, ((0, 0), (0, 1)), constant_values=1) for u in utterances]
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
                labels = [label for label, _ in itertools.groupby(path) if label != _BLANK]
                errors += _edit_distance(labels, utterances[i].phonemes)
        yield Epoch(number, loss / sum(map(len, inputs)), errors / sum(len(u.phonemes) for u in utterances))


def _edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
