"""The reference CTC agrees with an enumeration of all paths."""

from __future__ import annotations

import ctc_reference
import numpy as np
import pytest

from support.ctc import automaton_loss, enumerate_ctc

BLANK = 2


@pytest.mark.parametrize(
    "sequences",
    [[(1.0, (0,))], [(1.0, (0, 0))], [(1.0, (0, 1, 1))], [(0.5, (0, 1)), (0.5, (1,))]],
)
def test_the_reference_agrees_with_the_sum_over_all_paths(sequences):
    logits = np.random.default_rng(3).normal(size=(6, 3))
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss, error_signal = ctc_reference.loss_and_error_signal(scores, sequences, BLANK)
    expected_loss, _, expected_error = enumerate_ctc(scores, {labels: p for p, labels in sequences}, BLANK)
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
    loss = automaton_loss(scores, both, np.zeros(both.shape[1], np.float32), 0, 4)
    expected, _ = ctc_reference.loss_and_error_signal(scores, [(1.0, (0,))], BLANK)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
