"""action=refsprint-recognition: the calls of a recognizer to its feature scorer, and its errors."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from refsprint_env import RefsprintEnv

RECOGNITION = ("action=refsprint-recognition", "feature-dimension=3")

SCORER = """
BUFFER_SIZE = -1
LABELS = 7

class Scorer:
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **arguments: record(name, **arguments)
    def get_feature_buffer_size(self):
        record("get_feature_buffer_size")
        return BUFFER_SIZE
    def get_scores(self, time):
        record("get_scores", time=time)
        return numpy.arange(LABELS, dtype="float32")[::-1] + time

def init(**arguments):
    record("init", **arguments)
    return Scorer()
"""


@pytest.fixture
def features(sprint_env: RefsprintEnv) -> dict[str, Any]:
    """A matrix (dimension, time) for each segment, each of a different length."""
    matrices: dict[str, Any] = {
        name: np.full((3, 2 + i), i, np.float64) for i, name in enumerate(sprint_env.SEGMENTS)
    }
    np.savez(sprint_env.path / "features.npz", **matrices)
    return matrices


def recognize(sprint_env: RefsprintEnv, *more: str) -> Any:
    file = f"feature-extraction.file={sprint_env.path}/features.npz"
    return sprint_env.run(*RECOGNITION, file, f"refsprint.scores-file={sprint_env.path}/scores.npz", *more)


def test_all_features_of_a_segment_are_added_before_its_scores_are_requested(
    sprint_env: RefsprintEnv, features: dict[str, Any]
) -> None:
    sprint_env.module(SCORER)
    finished = recognize(sprint_env)
    assert finished.code == 0, finished.err
    expected = ["init", "init", "get_feature_buffer_size"]
    for matrix in features.values():
        frames = matrix.shape[1]
        expected += ["reset", *["add_feature"] * frames, "compute", *["get_scores"] * frames]
    assert finished.names == [*expected, "reset", "exit"]
    unit, dimensions = finished.arguments("init")
    assert unit["sprint_unit"] == ["str", "PythonFeatureScorer"]
    assert dimensions == {"input_dim": ["int", 3], "output_dim": ["int", sprint_env.LABELS]}
    lengths = [matrix.shape[1] for matrix in features.values()]
    times = [["int", time] for frames in lengths for time in range(frames)]
    assert [call["time"] for call in finished.arguments("add_feature")] == times
    assert [call["time"] for call in finished.arguments("get_scores")] == times
    vector = ["ndarray", [3], "float32", True, True, True]
    assert all(call["feature"] == vector for call in finished.arguments("add_feature"))
    assert [call["num_frames"] for call in finished.arguments("compute")] == [["int", n] for n in lengths]
    assert [call["num_frames"] for call in finished.arguments("reset")] == [["int", n] for n in [0, *lengths]]


def test_the_scores_are_written_and_the_best_labels_logged(
    sprint_env: RefsprintEnv, features: dict[str, Any]
) -> None:
    sprint_env.module(SCORER)
    finished = recognize(sprint_env)
    with np.load(sprint_env.path / "scores.npz") as scores:
        assert sorted(scores) == sorted(features)
        for name, matrix in features.items():
            times = np.arange(matrix.shape[1], dtype=np.float32)
            np.testing.assert_array_equal(scores[name], np.arange(7, dtype=np.float32)[::-1] + times[:, None])
    assert f"segment {sprint_env.SEGMENTS[1]!r}: 3 frames, best labels [6]" in finished.out + finished.err


def test_the_number_of_labels_is_an_option(sprint_env: RefsprintEnv, features: dict[str, Any]) -> None:
    sprint_env.module(SCORER.replace("LABELS = 7", "LABELS = 4"))
    finished = recognize(sprint_env, "python-feature-scorer-output-dimension=4")
    assert finished.code == 0, finished.err
    assert finished.arguments("init")[1]["output_dim"] == ["int", 4]


@pytest.mark.parametrize(
    ("change", "options", "code", "message"),
    [
        (("LABELS = 7", "LABELS = 6"), (), 1, "get_scores returned 6 scores; it must return 7"),
        (("BUFFER_SIZE = -1", "BUFFER_SIZE = 0"), (), 1, "get_feature_buffer_size returned 0"),
        (
            ("BUFFER_SIZE = -1", "BUFFER_SIZE = 'all'"),
            (),
            1,
            "returned 'all'; it must return a non-zero integer",
        ),
        (("BUFFER_SIZE = -1", "BUFFER_SIZE = 3"), (), -signal.SIGABRT, "frame 3 is added to a full buffer"),
        (("", ""), ("feature-dimension=4",), 1, "feature-dimension is 4; it must be 3"),
        (("", ""), ("feature-dimension=0",), -signal.SIGABRT, "feature-dimension is not set"),
        (("", ""), ("refsprint.scores-file=/proc/none/scores",), 1, "cannot write '/proc/none/scores"),
    ],
    ids=["labels", "no buffer", "odd buffer", "small buffer", "dimension", "no dimension", "file"],
)
def test_an_error_ends_the_recognition_with_a_message(
    sprint_env: RefsprintEnv,
    features: dict[str, Any],
    change: tuple[str, str],
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    sprint_env.module(SCORER.replace(*change, 1))
    finished = recognize(sprint_env, *options)
    assert finished.code == code
    assert message in finished.err
