"""viterbi, against an enumeration of all paths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from support.automata import Part, combine, enumerate_paths, random_automaton
from support.packages import import_or_skip

torch = import_or_skip("torch")

from shmbridge.torch import full_sum_loss, viterbi  # noqa: E402 - requires torch

LABELS = 4
LENGTHS = [3, 5, 1, 4]


def random_scores(seed: int, dtype: Any = torch.float64) -> Any:
    """Return random scores (time,batch,label), NaN beyond each length."""
    scores = torch.tensor(np.random.default_rng(seed).normal(size=(max(LENGTHS), len(LENGTHS), LABELS)))
    for b, length in enumerate(LENGTHS):
        scores[length:, b] = math.nan
    return scores.to(dtype)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_path_is_that_of_an_enumeration(seed: int, batch_first: bool) -> None:
    parts = [random_automaton(10 * seed + b, LABELS, num_states=2 + b) for b in range(4)]
    scores = random_scores(seed)
    given = scores.transpose(0, 1) if batch_first else scores
    labels, path_scores = viterbi(given, LENGTHS, combine(parts), batch_first=batch_first)
    assert labels.dtype == torch.int64
    by_sequence = labels if batch_first else labels.transpose(0, 1)
    for b, (part, length) in enumerate(zip(parts, LENGTHS)):
        expected = enumerate_paths(part, scores[:length, b].numpy())
        assert path_scores[b].item() == pytest.approx(expected.best_score)
        padded = [*expected.best, *[-1] * (max(LENGTHS) - len(expected.best))]
        assert by_sequence[b].tolist() == padded


def test_prior_and_scales_compose_the_score_of_a_path() -> None:
    part = random_automaton(1, LABELS)
    scores = random_scores(0)[:, 1:2]
    prior = np.log([0.1, 0.2, 0.3, 0.4])
    composed = (0.7 * scores - 0.3 * torch.from_numpy(prior))[:, 0].numpy()
    expected = enumerate_paths(part, composed, transition_scale=0.5)
    labels, path_scores = viterbi(
        scores,
        [5],
        combine([part]),
        log_prior=prior,
        acoustic_scale=0.7,
        prior_scale=0.3,
        transition_scale=0.5,
    )
    assert labels[:, 0].tolist() == list(expected.best)
    assert path_scores.item() == pytest.approx(expected.best_score)


def test_states_with_many_edges_are_traced_back() -> None:
    first = np.array([[0] * 40, range(1, 41), [0] * 40])
    second = np.array([range(1, 41), [41] * 40, [1] * 40])
    weights = np.ones(80, np.float32)
    weights[[17, 57]] = 0
    first[2, 17], second[2, 17] = 2, 3
    part = Part(42, np.concatenate([first, second], axis=1), weights)
    labels, path_scores = viterbi(torch.zeros(2, 1, LABELS), [2], combine([part]))
    assert labels[:, 0].tolist() == [2, 3]
    assert path_scores.tolist() == [0]


def test_a_sequence_without_a_path_has_no_labels() -> None:
    no_edges = Part(2, np.empty((3, 0), np.int64), np.empty(0))
    one_edge = Part(2, np.array([[0], [1], [2]]), np.zeros(1))
    for parts, expected in (
        ([no_edges, one_edge], [-math.inf, 0.0]),
        ([one_edge, no_edges], [0.0, -math.inf]),
        ([no_edges, no_edges], [-math.inf, -math.inf]),
    ):
        labels, path_scores = viterbi(torch.zeros(3, 2, LABELS), [1, 1], combine(parts))
        assert path_scores.tolist() == expected
        assert labels[0].tolist() == [-1 if score < 0 else 2 for score in expected]
        assert (labels[1:] == -1).all()
    labels, path_scores = viterbi(torch.zeros(3, 1, LABELS), [2], combine([one_edge]))
    assert (labels == -1).all()
    assert path_scores.tolist() == [-math.inf]


def test_the_scores_have_no_gradient_and_the_dtype_of_the_loss() -> None:
    parts = [random_automaton(seed, LABELS) for seed in range(4)]
    for dtype, expected in ((torch.float16, torch.float32), (torch.float64, torch.float64)):
        scores = random_scores(0, dtype).requires_grad_()
        path_scores = viterbi(scores, LENGTHS, combine(parts)).scores
        assert path_scores.dtype == expected
        assert not path_scores.requires_grad
        loss = full_sum_loss(scores, LENGTHS, combine(parts), reduction="none", skipped="inf")
        assert (path_scores <= -loss + 1e-3).all()
