"""The TensorFlow operations of RETURNN's losses, on a stand-in if TensorFlow is not installed."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from returnn_env import Returnn

import shmbridge

sys.path.append(str(Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples import rasr


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


@pytest.mark.parametrize("criterion", ["mmi", "me"])
def test_lattice_criteria_come_through_the_operations_of_the_loss(
    returnn: Returnn, in_a_process: Any, tmp_path: Path, criterion: str
) -> None:
    """With lattice-processor, in the segment order that Python gives (usePythonSegmentOrder)."""
    files = rasr.write(tmp_path / "files", rasr.make_task(labels=10, segments=3, frames=30))
    options = files.options(criterion)
    executable = returnn.sprint_env.executable(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m shmbridge.refsprint.lattice_processor "$@"\n'
    )
    segments = [*files.task.segments, files.task.segments[0]]  # one is too short, one occurs twice
    names, lengths = [s.full_name for s in segments], [s.frames for s in segments]
    logits = np.random.default_rng(1).normal(0, 2, (max(lengths), len(segments), 10))
    posteriors = (logits - np.logaddexp.reduce(logits, 2)[:, :, None]).astype(np.float32)
    results = in_a_process(
        "run_tensorflow.py",
        {
            "install": "before",
            "sprint_opts": {
                "sprintExecPath": executable,
                "sprintConfigStr": options["sprint_config"],
                "usePythonSegmentOrder": True,
                "numInstances": 2,
            },
            "automata": False,  # lattice-processor has none
            "posteriors": posteriors.tolist(),
            "lengths": lengths,
            "lengths_dtype": "int32",
            "tags": names,
        },
    )
    with shmbridge.SprintInstancePool(executable, **options, env=returnn.sprint_env.env) as pool:
        expected = pool.get_batch_loss_and_error_signal(posteriors, lengths, names)
    assert expected.skipped.tolist() == [False] * 3 + [True, False]
    np.testing.assert_array_equal(results["loss"], expected.loss)
    np.testing.assert_array_equal(results["error_signal"], expected.error_signal)
    assert (expected.loss[:3] > 0).all() == (criterion == "mmi")
    assert expected.error_signal[:, 0].any()
