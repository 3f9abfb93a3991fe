"""A feature scorer in a program that embeds Python: features out, scores back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from host_env import HostSprintEnv

import shmbridge


def score(features: Any) -> Any:
    """Return (time,8) float64 that encode segment, time and label."""
    return features.astype(np.float64) @ np.array([[1000.0], [10.0], [0.25]]) + np.arange(8)


def test_each_frame_gets_the_scores_of_the_trainers_function(sprint_env: HostSprintEnv) -> None:
    path = sprint_env.path / "scores"
    with sprint_env.pool("score", f"host.scores={path}") as pool:
        pool.serve_scores(score)
        assert pool.stats().scored == len(sprint_env.segments)
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    expected = []
    for index, (name, (_, frames)) in enumerate(sprint_env.segments.items()):
        features = np.array([[index, time, 1] for time in range(frames)], np.float32)
        expected += [(name, row) for row in score(features)]
    assert [name for name, *_ in lines] == [name for name, _ in expected]
    np.testing.assert_array_equal(
        np.array([[float(value) for value in values] for _, *values in lines]),
        np.array([row for _, row in expected]),
    )


def test_an_exception_of_the_score_function_ends_the_program(
    sprint_env: HostSprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    def fail(features: Any) -> Any:
        raise KeyError("no such layer")

    with sprint_env.pool("score") as pool, pytest.raises(KeyError, match="no such layer"):
        pool.serve_scores(fail)
    log = sprint_log()
    assert any("The trainer's score function raised KeyError: 'no such layer'" in line for line in log)
    assert any("compute() failed" in line for line in log)


def test_closing_the_pool_ends_a_program_that_waits_for_scores(sprint_env: HostSprintEnv) -> None:
    with sprint_env.pool("score") as pool:
        assert len(sprint_env.sprint_pids()) == 1
    assert sprint_env.sprint_pids() == []
    with pytest.raises(shmbridge.ClosedError):
        pool.serve_scores(score)
