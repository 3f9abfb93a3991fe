"""The training loop: send posteriors to Sprint, receive loss and error signal, update the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shmbridge import SprintInstancePool

from .data import Batch, Corpus, FloatArray, IntArray, batches
from .decode import edit_distance, greedy
from .model import AcousticModel, Adam

BATCH_SIZE = 8
LEARNING_RATE = 3e-3


class TrainingError(Exception):
    """Training cannot continue."""


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch.

    Attributes:
        number: the number of the epoch, finite from 1. train_loss: the loss per frame of posteriors, with
        dropout and distorted features. held_out_loss: the loss per frame of posteriors. label_error_rate: the
        edit distance divided by the number of labels, over all held-out segments. label_error_rates: the same
        for each set of held-out segments. segments_per_second: the speed of the training, without the
        held-out segments. exchange_share: the fraction of the training time spent in
        get_batch_loss_and_error_signal. This includes
            the time in which the trainer waits for Sprint to compute the criterion.
    """

    number: int
    train_loss: float
    held_out_loss: float
    label_error_rate: float
    label_error_rates: dict[str, float]
    segments_per_second: float
    exchange_share: float


class Criterion(Protocol):
    """Computes loss and error signal, and measures the time that this takes."""

    @property
    def seconds(self) -> float:
        """The total time."""

    def __call__(
        self, log_posteriors: FloatArray, lengths: IntArray, names: list[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the loss, (batch,) float32, and the error signal, (time, batch, label) float32."""


class Exchange:
    """Measures the time of the calls to the pool.

    Attributes:
        seconds: the total time in get_batch_loss_and_error_signal.
    """

    def __init__(self, pool: SprintInstancePool) -> None:
        self._pool = pool
        self.seconds = 0.0

    def __call__(
        self, log_posteriors: FloatArray, lengths: IntArray, names: list[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the loss, (batch,) float32, and the error signal, (time, batch, label) float32."""
        start = time.perf_counter()
        loss, error_signal = self._pool.get_batch_loss_and_error_signal(log_posteriors, lengths, names)
        self.seconds += time.perf_counter() - start
        return loss, error_signal


class LossPerFrame:
    """A running mean. It excludes the segments that Sprint skipped: their loss is infinite."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._frames = 0

    def add(self, loss: FloatArray, lengths: IntArray) -> None:
        """Add the segments of a batch."""
        finite = np.isfinite(loss)
        self._loss += float(loss[finite].sum())
        self._frames += int(lengths[finite].sum())

    def mean(self) -> float:
        """Return the loss per frame.

        Raises:
            TrainingError: Sprint skipped every segment.
        """
        if not self._frames:
            raise TrainingError(
                "Sprint skipped every segment; check its log. Common causes are a lexicon that does not "
                "match the corpus, and a different order of labels"
            )
        return self._loss / self._frames


@dataclass
class State:
    """A training between two epochs. copy.deepcopy copies all of it.

    Attributes:
        model: the model.
        optimizer: updates its parameters.
        rng: the source of dropout, order and distortion.
        step: the number of updates so far.
    """

    model: AcousticModel
    optimizer: Adam
    rng: np.random.Generator
    step: int = 0


def begin(corpus: Corpus, seed: int) -> State:
    """Return a training before its first epoch."""
    rng = np.random.default_rng(seed)
    model = AcousticModel(corpus.train[0].features.shape[1], len(corpus.labels), rng)
    return State(model, Adam(model.parameters), rng)


def train(
    corpus: Corpus,
    state: State,
    numbers: Iterable[int],
    epochs: int,
    criterion: Criterion,
    ctc: Exchange,
    on_batch: Callable[[int], None],
) -> Iterator[Epoch]:
    """Train for some epochs, and measure the model on the held-out segments after each.

    Args:
        corpus: the data.
        state: the model, which is changed.
        numbers: the numbers of the epochs.
        epochs: the number of epochs in all, for the learning rate.
        criterion: computes the error signal, and the loss to report.
        ctc: computes the loss of the held-out segments.
        on_batch: called after each training batch with its number of segments.

    Raises:
        TrainingError: Sprint skipped every segment.
        shmbridge.ShmbridgeError: the bridge or Sprint failed.
    """
    model = state.model
    steps = epochs * -(-len(corpus.train) // BATCH_SIZE)
    for number in numbers:
        train_loss = LossPerFrame()
        start, exchanged_before = time.perf_counter(), criterion.seconds
        for batch in batches(corpus.train, BATCH_SIZE, state.rng):
            log_posteriors, lengths = model.forward(batch.features, batch.lengths, train=True)
            loss, error_signal = criterion(log_posteriors, lengths, batch.names)
            model.backward(error_signal)
            used = int(np.isfinite(loss).sum())
            state.optimizer.step(learning_rate(state.step / steps), scale=1.0 / max(used, 1))
            state.step += 1
            train_loss.add(loss, lengths)
            on_batch(len(batch.segments))
        seconds = time.perf_counter() - start
        exchanged = criterion.seconds - exchanged_before
        held_out_loss, errors, labels = measure(corpus, model, ctc)
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
    """Return the rate at a progress from 0 to 1: it rises for 10 %, and falls to 0 over the last 70 %."""
    return LEARNING_RATE * min(1.0, progress / 0.1, (1.0 - progress) / 0.7)


def measure(
    corpus: Corpus, model: AcousticModel, exchange: Exchange
) -> tuple[float, dict[str, int], dict[str, int]]:
    """Return the loss per frame of the held-out segments, and each set's numbers of errors and labels."""
    held_out_loss = LossPerFrame()
    errors: dict[str, int] = {}
    labels: dict[str, int] = {}
    for name, segments in corpus.held_out.items():
        errors[name] = 0
        labels[name] = sum(len(segment.labels) for segment in segments)
        for batch in batches(segments, BATCH_SIZE):
            log_posteriors, lengths = model.forward(batch.features, batch.lengths)
            # The error signal is not used: the model does not train on held-out segments.
            loss, _ = exchange(log_posteriors, lengths, batch.names)
            held_out_loss.add(loss, lengths)
            errors[name] += count_errors(log_posteriors, lengths, batch, corpus)
    return held_out_loss.mean(), errors, labels


def count_errors(log_posteriors: FloatArray, lengths: IntArray, batch: Batch, corpus: Corpus) -> int:
    """Return the edit distance between decoded and transcribed labels, summed over a batch."""
    return sum(
        edit_distance(greedy(log_posteriors[:length, column], corpus.labels), segment.labels)
        for column, (length, segment) in enumerate(zip(lengths, batch.segments))
    )
