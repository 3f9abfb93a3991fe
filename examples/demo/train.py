"""Training: posteriors out through the bridge, loss and error signal back, one step along the gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shmbridge import SprintInstancePool

from .data import Batch, Corpus, FloatArray, IntArray, batches
from .decode import edit_distance, greedy
from .model import AcousticModel, Adam

BATCH_SIZE = 8
LEARNING_RATE = 3e-3


class TrainingError(Exception):
    """Training cannot go on."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        number: counted from 1.
        train_loss: per frame of posteriors, with dropout and distorted features.
        held_out_loss: per frame of posteriors.
        label_error_rate: edit distance over labels of the transcripts, all held-out segments.
        label_error_rates: the same by set of held-out segments.
        segments_per_second: in training, without the held-out segments.
        exchange_share: of the training time, what was spent in get_batch_loss_and_error_signal. That is the
            bridge and Sprint's computation of the criterion, for which the trainer waits.
    """

    number: int
    train_loss: float
    held_out_loss: float
    label_error_rate: float
    label_error_rates: dict[str, float]
    segments_per_second: float
    exchange_share: float


class Exchange:
    """The pool, with a stopwatch.

    Attributes:
        seconds: the time in get_batch_loss_and_error_signal so far.
    """

    def __init__(self, pool: SprintInstancePool) -> None:
        self._pool = pool
        self.seconds = 0.0

    def __call__(
        self, log_posteriors: FloatArray, lengths: IntArray, names: list[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Loss, (batch,) float32, and error signal, (time, batch, label) float32."""
        start = time.perf_counter()
        loss, error_signal = self._pool.get_batch_loss_and_error_signal(log_posteriors, lengths, names)
        self.seconds += time.perf_counter() - start
        return loss, error_signal


class LossPerFrame:
    """A running mean. Segments that Sprint discarded have an infinite loss: they are left out."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._frames = 0

    def add(self, loss: FloatArray, lengths: IntArray) -> None:
        """Count a batch: the loss of each segment, and its frames."""
        counted = np.isfinite(loss)
        self._loss += float(loss[counted].sum())
        self._frames += int(lengths[counted].sum())

    def mean(self) -> float:
        """The loss per frame.

        Raises:
            TrainingError: Sprint discarded every segment.
        """
        if not self._frames:
            raise TrainingError(
                "Sprint discarded every segment. Its log says why; usual reasons are a lexicon "
                "that does not fit to the corpus, and posteriors of other labels than it expects"
            )
        return self._loss / self._frames


def train(
    corpus: Corpus, exchange: Exchange, epochs: int, seed: int, on_batch: Callable[[int], None]
) -> Iterator[Epoch]:
    """Train a model, and measure it on the held-out segments after each epoch.

    Args:
        corpus: the data.
        exchange: computes loss and error signal.
        epochs: how many.
        seed: of weights, dropout, order and distortion.
        on_batch: is told the segments of each batch of training when it is done.

    Raises:
        TrainingError: see LossPerFrame.
        shmbridge.ShmbridgeError: the bridge or Sprint failed.
    """
    rng = np.random.default_rng(seed)
    model = AcousticModel(corpus.train[0].features.shape[1], len(corpus.labels), rng)
    optimiser = Adam(model.parameters)
    steps = epochs * -(-len(corpus.train) // BATCH_SIZE)
    step = 0
    for number in range(1, epochs + 1):
        train_loss = LossPerFrame()
        start, exchanged_before = time.perf_counter(), exchange.seconds
        for batch in batches(corpus.train, BATCH_SIZE, rng):
            log_posteriors, lengths = model.forward(batch.features, batch.lengths, train=True)
            loss, error_signal = exchange(log_posteriors, lengths, batch.names)
            model.backward(error_signal)
            used = int(np.isfinite(loss).sum())
            optimiser.step(learning_rate(step / steps), scale=1.0 / max(used, 1))
            step += 1
            train_loss.add(loss, lengths)
            on_batch(len(batch.segments))
        seconds = time.perf_counter() - start
        exchanged = exchange.seconds - exchanged_before
        held_out_loss, errors, labels = measure(corpus, model, exchange)
        yield Epoch(
            number,
            train_loss.mean(),
            held_out_loss,
            sum(errors.values()) / sum(labels.values()),
            {name: errors[name] / labels[name] for name in errors},
            len(corpus.train) / seconds,
            exchanged / seconds,
        )


def learning_rate(progress: float) -> float:
    """Up over the first tenth, level, and down to nothing over the last 70 %: progress from 0 to 1."""
    return LEARNING_RATE * min(1.0, progress / 0.1, (1.0 - progress) / 0.7)


def measure(
    corpus: Corpus, model: AcousticModel, exchange: Exchange
) -> tuple[float, dict[str, int], dict[str, int]]:
    """Loss per frame of the held-out segments; label errors and labels of each set of them."""
    held_out_loss = LossPerFrame()
    errors: dict[str, int] = {}
    labels: dict[str, int] = {}
    for name, segments in corpus.held_out.items():
        errors[name] = 0
        labels[name] = sum(len(segment.labels) for segment in segments)
        for batch in batches(segments, BATCH_SIZE):
            log_posteriors, lengths = model.forward(batch.features, batch.lengths)
            # Only the loss is of use here; the model does not see the error signal.
            loss, _ = exchange(log_posteriors, lengths, batch.names)
            held_out_loss.add(loss, lengths)
            errors[name] += count_errors(log_posteriors, lengths, batch, corpus)
    return held_out_loss.mean(), errors, labels


def count_errors(log_posteriors: FloatArray, lengths: IntArray, batch: Batch, corpus: Corpus) -> int:
    """The edit distance between what is recognised and what was said, summed over a batch."""
    return sum(
        edit_distance(greedy(log_posteriors[:length, column], corpus.labels), segment.labels)
        for column, (length, segment) in enumerate(zip(lengths, batch.segments))
    )
