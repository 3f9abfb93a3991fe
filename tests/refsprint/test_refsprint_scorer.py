"""action=refsprint-recognition: what a recogniser asks of its feature scorer, and where it fails."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

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
def features(workspace: Any) -> dict[str, Any]:
    """(dimension, time) of each segment, of another length each."""
    matrices = {name: np.full((3, 2 + i), i, np.float64) for i, name in enumerate(workspace.SEGMENTS)}
    np.savez(workspace.path / "features.npz", **matrices)
    return matrices


def recognize(workspace: Any, *more: str) -> Any:
    file = f"feature-extraction.file={workspace.path}/features.npz"
    return workspace.run(*RECOGNITION, file, f"refsprint.scores-file={workspace.path}/scores.npz", *more)


def test_all_features_of_a_segment_come_before_its_scores(workspace: Any, features: dict[str, Any]) -> None:
    workspace.module(SCORER)
    finished = recognize(workspace)
    assert finished.code == 0, finished.err
    expected = ["init", "init", "get_feature_buffer_size"]
    for matrix in features.values():
        frames = matrix.shape[1]
        expected += ["reset", *["add_feature"] * frames, "compute", *["get_scores"] * frames]
    assert finished.names == [*expected, "reset", "exit"]
    unit, dimensions = finished.arguments("init")
    assert unit["sprint_unit"] == ["str", "PythonFeatureScorer"]
    assert dimensions == {"input_dim": ["int", 3], "output_dim": ["int", workspace.LABELS]}
    lengths = [matrix.shape[1] for matrix in features.values()]
    times = [["int", time] for frames in lengths for time in range(frames)]
    assert [call["time"] for call in finished.arguments("add_feature")] == times
    assert [call["time"] for call in finished.arguments("get_scores")] == times
    vector = ["ndarray", [3], "float32", True, True, True]
    assert all(call["feature"] == vector for call in finished.arguments("add_feature"))
    assert [call["num_frames"] for call in finished.arguments("compute")] == [["int", n] for n in lengths]
    assert [call["num_frames"] for call in finished.arguments("reset")] == [["int", n] for n in [0, *lengths]]


def test_the_scores_are_written_and_the_best_labels_logged(workspace: Any, features: dict[str, Any]) -> None:
    workspace.module(SCORER)
    finished = recognize(workspace)
    with np.load(workspace.path / "scores.npz") as scores:
        assert sorted(scores) == sorted(features)
        for name, matrix in features.items():
            times = np.arange(matrix.shape[1], dtype=np.float32)
            np.testing.assert_array_equal(scores[name], np.arange(7, dtype=np.float32)[::-1] + times[:, None])
    assert f"segment {workspace.SEGMENTS[1]!r}: 3 frames, best labels [6]" in finished.out + finished.err


def test_the_number_of_labels_can_be_given(workspace: Any, features: dict[str, Any]) -> None:
    workspace.module(SCORER.replace("LABELS = 7", "LABELS = 4"))
    finished = recognize(workspace, "python-feature-scorer-output-dimension=4")
    assert finished.code == 0, finished.err
    assert finished.arguments("init")[1]["output_dim"] == ["int", 4]


@pytest.mark.parametrize(
    ("change", "options", "code", "message"),
    [
        (("LABELS = 7", "LABELS = 6"), (), 1, "get_scores returned 6 scores, 7 are wanted"),
        (("BUFFER_SIZE = -1", "BUFFER_SIZE = 0"), (), 1, "get_feature_buffer_size returned 0"),
        (("BUFFER_SIZE = -1", "BUFFER_SIZE = 'all'"), (), 1, "returned 'all', no integer"),
        (("BUFFER_SIZE = -1", "BUFFER_SIZE = 3"), (), -signal.SIGABRT, "frame 3 is added to a full buffer"),
        (("", ""), ("feature-dimension=4",), 1, "feature-dimension is 4, the features have 3"),
        (("", ""), ("feature-dimension=0",), -signal.SIGABRT, "feature-dimension is not set"),
        (("", ""), ("refsprint.scores-file=/proc/none/scores",), 1, "cannot write '/proc/none/scores"),
    ],
    ids=["labels", "no buffer", "odd buffer", "small buffer", "dimension", "no dimension", "file"],
)
def test_what_cannot_be_ends_it_with_the_reason(
    workspace: Any,
    features: dict[str, Any],
    change: tuple[str, str],
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    workspace.module(SCORER.replace(*change, 1))
    finished = recognize(workspace, *options)
    assert finished.code == code
    assert message in finished.err
