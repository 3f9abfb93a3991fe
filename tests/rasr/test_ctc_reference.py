"""The reference CTC agrees with an enumeration of all paths."""

from __future__ import annotations

import itertools

import ctc_reference
import numpy as np
import pytest

BLANK = 2


def enumerate_paths(scores, sequences):
    probabilities = {tuple(labels): p for p, labels in sequences}
    total, occupied = 0.0, np.zeros(scores.shape)
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        collapsed = tuple(label for label, _ in itertools.groupby(path) if label != BLANK)
        probability = probabilities.get(collapsed, 0.0) * np.exp(scores[range(len(scores)), path].sum())
        total += probability
        occupied[range(len(scores)), path] += probability
    return -np.log(total), np.exp(scores) - occupied / total


@pytest.mark.parametrize(
    "sequences",
    [[(1.0, (0,))], [(1.0, (0, 0))], [(1.0, (0, 1, 1))], [(0.5, (0, 1)), (0.5, (1,))]],
)
def test_the_reference_agrees_with_the_sum_over_all_paths(sequences):
    logits = np.random.default_rng(3).normal(size=(6, 3))
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, error_signal = ctc_reference.loss_and_error_signal(scores, sequences, BLANK)
    expected_loss, expected_error = enumerate_paths(scores, sequences)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(error_signal, expected_error, atol=1e-12)


def test_a_handwritten_automaton_has_the_same_loss():
    # Label 0 between optional blanks. States: start, first blanks, label, last blanks.
    edges = np.array([[0, 0, 1, 1, 2, 2, 3], [1, 2, 1, 2, 2, 3, 3], [2, 0, 2, 0, 0, 2, 2]], np.uint32)
    # As in Sprint, there is one final state: arcs that may end a path also lead there.
    final = np.array([[0, 1, 2, 2, 3], [4, 4, 4, 4, 4], [0, 0, 0, 2, 2]], np.uint32)
    logits = np.random.default_rng(4).normal(size=(5, 3))
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    both = np.hstack([edges, final])
    loss = ctc_reference.automaton_loss(scores, both, np.zeros(both.shape[1], np.float32), 0, 4)
    expected, _ = ctc_reference.loss_and_error_signal(scores, [(1.0, (0,))], BLANK)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
