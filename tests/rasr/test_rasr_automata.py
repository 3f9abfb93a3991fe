"""The loss computed from an automaton is that of CTC, and Sprint's loss if it has that criterion."""

from __future__ import annotations

import numpy as np
import pytest

import shmbridge
from support.ctc import automaton_loss

CALLING_BACK = ["iterate", "loop"]


@pytest.fixture
def sprint(any_sprint):
    """Each program: one without a CTC criterion has automata of CTC nevertheless."""
    return any_sprint


@pytest.fixture
def large_nn_trainer(any_large_nn_trainer):
    """nn-trainer, likewise."""
    return any_large_nn_trainer


def check_automata(sprint, pool, names):
    posteriors = sprint.posteriors(names)
    loss = sprint.loss_and_error_signal(pool, names, posteriors).loss if sprint.has_ctc() else None
    edges, weights, ends = pool.get_automata_for_batch(names)
    assert edges.shape == (4, len(weights))
    assert ends.shape == (2, len(names))
    for b, (name, length) in enumerate(zip(names, sprint.lengths(names))):
        of_segment = edges[3] == b
        from_automaton = automaton_loss(
            posteriors[:length, b], edges[:3, of_segment], weights[of_segment], *ends[:, b]
        )
        if loss is not None:
            np.testing.assert_allclose(from_automaton, loss[b], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(
            from_automaton, sprint.expected(name, posteriors[:length, b])[0], rtol=1e-4, err_msg=name
        )


@pytest.mark.parametrize("children", [1, 2])
@pytest.mark.parametrize("way", CALLING_BACK)
def test_the_loss_computed_from_an_automaton_is_sprints_loss(sprint, way, children):
    with sprint.pool(way, num_instances=children) as pool:
        check_automata(sprint, pool, sprint.names)
        check_automata(sprint, pool, sprint.names[1:3])


@pytest.mark.parametrize("way", CALLING_BACK)
def test_the_losses_agree_with_1000_frames_and_12000_labels(large_nn_trainer, way):
    with large_nn_trainer.pool(way) as pool:
        check_automata(large_nn_trainer, pool, large_nn_trainer.names[:2])


@pytest.mark.parametrize("way", CALLING_BACK)
def test_an_automaton_of_an_unknown_segment_raises_an_error_with_its_name(sprint, way):
    with sprint.pool(way) as pool:
        with pytest.raises(shmbridge.RemoteError, match="example/recording/nowhere") as caught:
            pool.get_automata_for_batch([sprint.names[0], "example/recording/nowhere"])
        assert caught.value.remote_type == "KeyError"
        check_automata(sprint, pool, sprint.names)
