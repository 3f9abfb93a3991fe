"""Losses and error signals are those of CTC in every way, with refsprint and with nn-trainer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

WITH_ERROR_SIGNAL = ["iterate", "trainer", "loop"]
CALLING_BACK = ["iterate", "loop"]
CHILDREN = [1, 2]


@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_losses_and_error_signals_are_those_of_ctc(sprint, way, children):
    with sprint.pool(way, num_instances=children) as pool:
        sprint.check(pool, sprint.names, seed=1)
        sprint.check(pool, list(reversed(sprint.names)), seed=2)
        sprint.check(pool, sprint.names[2:3], seed=3)
        assert pool.stats().segments == 2 * len(sprint.names) + 1
        assert pool.stats().skipped == pool.stats().failed == 0


@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_they_are_those_of_ctc_with_1000_frames_and_12000_labels(large_nn_trainer, way, children):
    sprint = large_nn_trainer
    assert sprint.labels == 12000
    assert max(sprint.lengths(sprint.names)) == 1000
    with sprint.pool(way, num_instances=children) as pool:
        sprint.check(pool, sprint.names)
        sprint.check(pool, sprint.names[:1], seed=1)
        assert pool.stats().segments == len(sprint.names) + 1


@pytest.mark.parametrize("children", CHILDREN)
@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_a_segment_with_too_few_frames_is_skipped_without_effect_on_others(sprint, way, children):
    names = [sprint.names[0], sprint.too_short, sprint.names[1]]
    with sprint.pool(way, num_instances=children) as pool:
        for seed in range(2):
            posteriors = sprint.posteriors(names, seed)
            loss, error_signal = sprint.loss_and_error_signal(pool, names, posteriors)
            assert loss[1] == np.inf
            assert not error_signal[:, 1].any()
            sprint.compare(loss[::2], error_signal[:, ::2], posteriors[:, ::2], names[::2])
        assert (pool.stats().segments, pool.stats().skipped) == (4, 2)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("way", CALLING_BACK)
def test_no_matrix_is_copied(nn_trainer, large_nn_trainer, way, size, tmp_path, monkeypatch):
    """Sprint reads the posteriors in shared memory, and numpy allocates its error signal there.

    Each call has one segment: while the parent has not taken the previous answer, the ring may be full, and
    the error signal is copied. refsprint is excluded: it computes with numpy, and one of its own arrays may
    have the size of the error signal and occupy its place.
    """
    sprint = {"small": nn_trainer, "large": large_nn_trainer}[size]
    names = sprint.names if size == "small" else sprint.names[:3]
    notes = tmp_path / "notes"
    monkeypatch.setenv("LANDING_NOTES", str(notes))
    folder = Path(__file__).parent
    with sprint.pool(way, f"pymod-path={folder}", "pymod-name=landing_probe") as pool:
        for name in names:
            sprint.check(pool, [name])
    noted = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [note["segment"] for note in noted] == names
    assert all(note["posteriors"] for note in noted), noted
    # The first segment of a child is a trial.
    assert [note["error_signal"] for note in noted] == [False] + [True] * (len(names) - 1)


@pytest.mark.parametrize("way", WITH_ERROR_SIGNAL)
def test_segments_in_place_have_the_same_losses_and_error_signals(sprint, way):
    with sprint.pool(way) as pool:
        for name in sprint.names[:3]:
            (length,) = sprint.lengths([name])
            posteriors = sprint.posteriors([name])[:, 0]
            with pool.claim(name, length, sprint.labels) as segment:
                segment.posteriors[...] = posteriors
                with segment.send().result() as result:
                    expected_loss, expected_error = sprint.expected(name, posteriors)
                    np.testing.assert_allclose(result.loss, expected_loss, rtol=1e-4)
                    np.testing.assert_allclose(result.error_signal, expected_error, rtol=1e-3, atol=1e-4)


def test_the_python_layer_can_be_the_top_layer(sprint):
    """In this case RASR calls backpropagate before notify_segment_loss."""
    with sprint.pool("trainer", "posteriors.links=") as pool:
        sprint.check(pool, sprint.names)


def test_impossible_labels_are_not_an_error(sprint):
    """Sprint accepts -inf, a probability of 0, for labels that the segment does not need."""
    name = sprint.names[0]
    posteriors = sprint.posteriors([name])
    posteriors[:, :, sprint.task.silence] = -np.inf
    with sprint.pool("iterate") as pool:
        loss, error_signal = sprint.loss_and_error_signal(pool, [name], posteriors)
    sprint.compare(loss, error_signal, posteriors, [name])
    assert not error_signal[:, :, sprint.task.silence].any()
