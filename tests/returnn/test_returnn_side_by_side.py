"""RETURNN's pool with its own pipes and with shmbridge: equal options, equal results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from returnn_env import Returnn

from support.sprint_env import SprintEnv


@pytest.fixture
def both(sprint_env: SprintEnv, returnn: Returnn, in_a_process: Any, numpy_for_returnn: list[str]) -> Any:
    """Run the same jobs with RETURNN's own pool and with shmbridge; see run_returnn.py."""

    def run(*jobs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        results = []
        for with_shmbridge in (False, True):
            # Both get the same numpy: refsprint computes with it.
            task = {"shmbridge": with_shmbridge, "jobs": jobs}
            results.append(in_a_process("run_returnn.py", task, numpy_for_returnn))
        # RETURNN's pools have their own children only without shmbridge.
        theirs, ours = results
        assert theirs.pop("instances").all()
        assert not ours.pop("instances").any()
        assert theirs.keys() == ours.keys()
        return theirs, ours

    return run


def assert_same(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for key, array in theirs.items():
        assert ours[key].dtype == array.dtype, key
        assert ours[key].strides == array.strides, key
        np.testing.assert_array_equal(ours[key], array, err_msg=key)


def test_losses_and_error_signals_are_equal_to_the_last_bit(returnn: Returnn, both: Any) -> None:
    names, lengths = returnn.names, returnn.lengths
    theirs, ours = both(
        {
            "sprint_opts": returnn.sprint_opts("trainer"),
            "calls": [
                ["loss", 1, "float32", lengths, names],
                ["loss", 2, "float64", lengths[:2], names[:2]],
                ["loss", 3, "float16", lengths[2:], names[2:]],
                ["loss", 4, "float32", [lengths[1]], [names[1]]],
            ],
        },
        {
            "sprint_opts": returnn.sprint_opts(
                "trainer",
                numInstances=2,
                minPythonControlVersion=4,
                sprintControlConfig={"verbose": True, "quiet": False},
            ),
            "calls": [["loss", 1, "float32", lengths, names]],
        },
    )
    assert_same(theirs, ours)
    loss, error_signal = ours["0/0/0"], ours["0/0/1"]
    assert loss[names.index(returnn.sprint_env.SHORT)] == np.inf  # skipped
    assert np.isfinite(np.delete(loss, names.index(returnn.sprint_env.SHORT))).all()
    assert error_signal.any()


def test_a_batch_may_contain_a_segment_more_than_once(returnn: Returnn, both: Any) -> None:
    names = [returnn.names[index] for index in (0, 1, 0, 2, 1, 0)]
    lengths = returnn.sprint_env.frames(names)
    theirs, ours = both(
        {
            "sprint_opts": returnn.sprint_opts("trainer", numInstances=2),
            "calls": [["loss", 5, "float32", lengths, names]],
        },
        {"sprint_opts": returnn.sprint_opts("loop"), "calls": [["automata", names]]},
    )
    assert_same(theirs, ours)


@pytest.mark.parametrize("num_instances", [1, 2])
def test_automata_are_equal(returnn: Returnn, both: Any, num_instances: int) -> None:
    theirs, ours = both(
        {
            "sprint_opts": returnn.sprint_opts("loop", numInstances=num_instances),
            "calls": [["automata", returnn.names], ["automata", returnn.names[4:1:-1]]],
        }
    )
    assert_same(theirs, ours)


@pytest.mark.parametrize(
    ("way", "option"),
    [
        ("no-layer", "--*.estimator=dry-run"),  # Sprint's network does not receive the posteriors
        ("trainer", "--*.estimator=dummy"),  # Sprint evaluates nothing, and reports a loss of 0
    ],
)
def test_without_an_error_signal_only_the_loss_differs(
    returnn: Returnn, both: Any, way: str, option: str
) -> None:
    """RETURNN returns the loss that Sprint reports; shmbridge returns infinity without an error signal."""
    theirs, ours = both(
        {
            "sprint_opts": returnn.sprint_opts(way, option),
            "calls": [["loss", 1, "float32", returnn.lengths[:3], returnn.names[:3]]],
        }
    )
    assert not theirs["0/0/1"].any()
    np.testing.assert_array_equal(ours["0/0/1"], theirs["0/0/1"])
    assert np.isfinite(theirs["0/0/0"]).all()
    assert (ours["0/0/0"] == np.inf).all()
