"""The TensorFlow operations of RETURNN's losses, on a stand-in if TensorFlow is not installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from returnn_env import Returnn


@pytest.mark.parametrize("install", ["before", "after"])
@pytest.mark.parametrize("lengths_dtype", ["int32", "int64"])
def test_the_operations_return_the_results_of_the_pool(
    returnn: Returnn, in_a_process: Any, install: str, lengths_dtype: str
) -> None:
    names = [*returnn.sprint_env.NAMES, returnn.sprint_env.NAMES[0]]
    lengths = returnn.sprint_env.frames(names)
    posteriors = returnn.sprint_env.posteriors(lengths)
    results = in_a_process(
        "run_tensorflow.py",
        {
            "install": install,
            "sprint_opts": returnn.sprint_opts("loop", numInstances=2),
            "posteriors": posteriors.tolist(),
            "lengths": lengths,
            "lengths_dtype": lengths_dtype,
            "tags": names,
        },
    )
    assert results["real"] == (importlib.util.find_spec("tensorflow") is not None)
    returnn.sprint_env.compare(results["loss"], results["error_signal"], posteriors, lengths, names)
    expected = returnn.pool("loop").get_automata_for_batch(names)
    for name, array in zip(("edges", "weights", "start_end_states"), expected):
        assert results[name].dtype == ("float32" if name == "weights" else "int32")  # RETURNN casts
        np.testing.assert_array_equal(results[name], array)
