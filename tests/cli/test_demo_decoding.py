"""The decoder of examples/demo, and the lattices that it makes."""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import shmbridge
from shmbridge.lattices import from_n_best

sys.path.append(str(Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples.demo import data, decode, lattices, minimum_error, sprint, train
from examples.demo.model import AcousticModel

BLANK = 3


def collapse(path):
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def log_posteriors(frames, labels, seed):
    logits = np.random.default_rng(seed).normal(0, 1, (frames, labels))
    return (logits - np.logaddexp.reduce(logits, 1)[:, None]).astype(np.float32)


@pytest.fixture(params=range(5))
def rows(request):
    return log_posteriors(5, BLANK + 1, request.param)


@pytest.fixture
def best_paths(rows):
    """The score of the best path of each label sequence, and the path."""
    best = defaultdict(lambda: (-np.inf, ()))
    for path in itertools.product(range(BLANK + 1), repeat=len(rows)):
        score = float(sum(row[label] for row, label in zip(rows, path)))
        best[collapse(path)] = max(best[collapse(path)], (score, path))
    return best


def labels_of(stretches):
    return tuple(stretch.label for stretch in stretches for _ in range(stretch.start, stretch.end))


def test_the_alignment_is_the_best_path(rows, best_paths):
    assert () in best_paths
    for sequence, (_, path) in best_paths.items():
        assert labels_of(decode.align(rows, sequence, BLANK)) == path


def test_a_sequence_that_needs_more_frames_has_no_alignment():
    rows = log_posteriors(3, BLANK + 1, 0)
    assert decode.align(rows, (0, 0, 0), BLANK) is None
    assert labels_of(decode.align(rows, (0, 1, 2), BLANK)) == (0, 1, 2)


def test_each_hypothesis_differs_from_the_transcript_in_one_label(rows, best_paths):
    for sequence in best_paths:
        transcript = decode.align(rows, sequence, BLANK)
        hypotheses = [labels_of(each) for each in decode.alternatives(rows, transcript, BLANK, 4)]
        assert len(set(hypotheses)) == len(hypotheses)
        for hypothesis in hypotheses:
            assert len(hypothesis) == len(rows)
            assert decode.edit_distance(collapse(hypothesis), sequence) == 1


def test_an_unlikely_label_is_not_in_a_hypothesis():
    rows = np.float32([[0, -10, -10, -1], [0, -10, -3, -1], [-1, -10, -1, 0]])
    transcript = decode.align(rows, (0,), BLANK)
    assert labels_of(transcript) == (0, 0, BLANK)
    hypotheses = [labels_of(each) for each in decode.alternatives(rows, transcript, BLANK, 4)]
    assert hypotheses == [(BLANK, BLANK, BLANK), (2, 2, BLANK), (0, 0, 2)]


@pytest.fixture(scope="module")
def corpus():
    whole = data.load()
    return data.Corpus(whole.labels, whole.train[:3], {})


@pytest.fixture
def model(corpus):
    return AcousticModel(corpus.train[0].features.shape[1], len(corpus.labels), np.random.default_rng(1))


def test_a_lattice_contains_the_transcript_and_other_sequences(corpus, model, tmp_path):
    made = lattices.make(corpus, model, np.random.default_rng(1))
    assert list(made) == [segment.name for segment in corpus.train]
    config = lattices.write(tmp_path / "lattices", corpus, made)
    assert config.is_file()
    for segment in corpus.train:
        path = tmp_path / "lattices" / "lattices" / f"{lattices.sprint_name(segment.name)}.lat"
        assert path.is_file()
        assert made[segment.name].num_arcs > len(segment.labels)


def test_a_lattice_without_the_transcript_is_refused(corpus, model, tmp_path):
    made = lattices.make(corpus, model, np.random.default_rng(1))
    first, second = corpus.train[:2]
    made[first.name] = made[second.name]
    with pytest.raises(data.DataError, match=r"\.lat: no path has the reference"):
        lattices.write(tmp_path, corpus, made)


def test_the_transcript_alone_has_its_number_of_labels_as_accuracy(corpus, tmp_path):
    """So the blank does not count as a phone."""
    blank, symbols = corpus.labels.blank, corpus.labels.symbols
    made, lengths = {}, []
    for segment in corpus.train:
        path = [label for phoneme in segment.labels for label in (blank, phoneme)]
        words = [lattices.Word(symbols[label], n * 0.01, (n + 1) * 0.01) for n, label in enumerate(path)]
        made[segment.name] = from_n_best([words])
        lengths.append(len(path))
    config = sprint.lattice_config(lattices.write(tmp_path, corpus, made), corpus.labels)
    posteriors = np.stack([log_posteriors(max(lengths), len(symbols), seed) for seed in range(3)], axis=1)
    names = [lattices.sprint_name(segment.name) for segment in corpus.train]
    with shmbridge.SprintInstancePool(sprint.lattice_executable(None), config) as pool:
        loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
    np.testing.assert_allclose(loss, [-len(segment.labels) for segment in corpus.train], rtol=1e-6)
    np.testing.assert_allclose(error_signal, 0, atol=1e-6)


class FakePool:
    def __init__(self, loss, error_signal):
        self.result = np.float32([loss]), np.full((2, 1, 3), error_signal, np.float32)
        self.names = None

    def get_batch_loss_and_error_signal(self, posteriors, lengths, names):
        self.names = names
        return self.result


def test_the_criterion_is_the_sum_of_ctc_and_minimum_error():
    ctc, of_lattices = FakePool(7.0, 0.25), FakePool(-3.0, 0.5)
    criterion = minimum_error.MinimumError(train.Exchange(ctc), train.Exchange(of_lattices))
    batch = np.zeros((2, 1, 3), np.float32), np.int32([2])
    loss, error_signal = criterion(*batch, ["demo/recording/1"])
    assert loss.tolist() == [7.0]
    # The error signal of a lattice criterion is the gradient divided by the acoustic scale.
    assert error_signal.ravel().tolist() == [0.25 + 3.0 * 0.5 * 0.5] * 6
    assert (ctc.names, of_lattices.names) == (["demo/recording/1"], ["example/recording/demo-recording-1"])


def test_it_is_an_error_if_each_lattice_of_a_batch_is_skipped():
    pools = FakePool(7.0, 0.25), FakePool(np.inf, 0.0)
    criterion = minimum_error.MinimumError(*map(train.Exchange, pools))
    with pytest.raises(train.TrainingError, match="skipped each segment"):
        criterion(np.zeros((2, 1, 3), np.float32), np.int32([2]), ["demo/recording/1"])
