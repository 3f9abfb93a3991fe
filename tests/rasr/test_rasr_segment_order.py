"""The fourth way: Sprint only requests the order of the segments."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def sprint(any_sprint):
    """Each program: no criterion is needed if no segment is computed."""
    return any_sprint


@pytest.fixture
def large_nn_trainer(any_large_nn_trainer):
    """nn-trainer, likewise."""
    return any_large_nn_trainer


@pytest.mark.parametrize("children", [1, 2])
def test_without_a_python_layer_segments_are_skipped_with_a_reason_in_the_log(sprint, children, sprint_log):
    names = sprint.names
    with sprint.pool("order", num_instances=children) as pool:
        loss, error_signal = sprint.loss_and_error_signal(pool, names, sprint.posteriors(names))
        assert (loss == np.inf).all()
        assert not error_signal.any()
        assert (pool.stats().segments, pool.stats().skipped) == (0, len(names))
    said = "\n".join(sprint_log())
    for name in names:
        assert f"segment {name!r}: not asked for posteriors" in said
        assert f"segment {name!r}: no segment notification" not in said


def test_without_python_control_the_log_gives_another_reason(sprint, sprint_log):
    names = sprint.names[:2]
    with sprint.pool("order", "python-control-enabled=false") as pool:
        loss, _ = sprint.loss_and_error_signal(pool, names, sprint.posteriors(names))
        assert (loss == np.inf).all()
    said = "\n".join(sprint_log())
    for name in names:
        assert f"segment {name!r}: no segment notification" in said


def test_segments_are_skipped_with_1000_frames_and_12000_labels(large_nn_trainer):
    sprint = large_nn_trainer
    names = sprint.names[:2]
    with sprint.pool("order") as pool:
        loss, error_signal = sprint.loss_and_error_signal(pool, names, sprint.posteriors(names))
        assert (loss == np.inf).all()
        assert not error_signal.any()
