"""refsprint-recognition: the calls of a recognizer to its feature scorer, without a search.

RASR's recognizers are not nn-trainer but speech-recognizer and flf-tool. They do not have this action, but it
makes the calls of their python-feature-scorer in RASR's order: a reset, all features of a segment, and the
scores frame by frame. Instead of a search, it selects the best label of each frame.
"""

from __future__ import annotations

import itertools
import operator

import numpy as np

from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import CriticalError, FailedAssertionError, log
from .criterion import Model
from .features import Features
from .matrices import Matrix, vector_from_python
from .python_control import PythonControl
from .segment_order import visit

__all__ = ["recognize"]


def recognize(config: Configuration) -> None:
    """Score the segments of the corpus.

    Raises:
        OptionError: an option is wrong.
        FileFormatError: a file is missing or malformed.
        CriticalError, FailedAssertionError: as in RASR.
    """
    features = Features(config.select("feature-extraction"))
    scorer = _FeatureScorer(config)
    all_scores: dict[str, Matrix] = {}
    for segment in visit(config.select("corpus")):
        scores = scorer.score(features.matrix(segment, config.integer("feature-dimension", 0)))
        best = [label for label, _ in itertools.groupby(scores.argmin(axis=1).tolist())]
        log(f"segment {segment.full_name!r}: {len(scores)} frames, best labels {best}")
        all_scores[segment.full_name] = scores
    path = config.select("refsprint").string("scores-file")
    try:
        if path:
            np.savez(path, **all_scores)  # type: ignore[arg-type] # numpy's stub: allow_pickle
    except OSError as error:
        problem = f"refsprint.scores-file: cannot write {path!r}: {error.strerror} [refsprint-scorer]"
        raise OptionError(problem) from error
    scorer.exit()


class _FeatureScorer:
    """RASR's PythonFeatureScorer: Python receives all features of a segment, and returns scores by frame."""

    def __init__(self, config: Configuration) -> None:
        self._dimension = config.integer("feature-dimension", 0)
        num_labels = config.integer("python-feature-scorer-output-dimension", 0)
        self._num_labels = num_labels or Model(config).num_labels
        if self._dimension == 0:
            raise FailedAssertionError("feature-dimension is not set [refsprint-scorer]")
        self._num_frames = 0
        self._control = PythonControl(config, "PythonFeatureScorer")
        self._control.call("init", input_dim=self._dimension, output_dim=self._num_labels)
        self._buffer_size = self._ask_buffer_size()

    def score(self, features: Matrix) -> Matrix:
        """Return (time, label) float32, -ln of the probabilities, for (dimension, time) float32."""
        self._control.call("reset", num_frames=self._num_frames)
        dimension, self._num_frames = features.shape
        if self._num_frames and dimension != self._dimension:
            problem = f"feature-dimension is {self._dimension}; it must be {dimension} as in the features"
            raise CriticalError(f"{problem} [refsprint-scorer]")
        for time, feature in enumerate(features.T):
            if time >= self._buffer_size:
                raise FailedAssertionError(f"frame {time} is added to a full buffer [refsprint-scorer]")
            self._control.call("add_feature", feature=np.array(feature), time=time)
        scores = np.empty((self._num_frames, self._num_labels), np.float32)
        if self._num_frames:
            self._control.call("compute", num_frames=self._num_frames)
        for time in range(self._num_frames):
            answer = vector_from_python(self._control.call("get_scores", time=time), "get_scores")
            if len(answer) != self._num_labels:
                problem = f"get_scores returned {len(answer)} scores; it must return {self._num_labels}"
                raise CriticalError(f"{problem} [refsprint-scorer]")
            scores[time] = answer
        return scores

    def exit(self) -> None:
        self._control.call("reset", num_frames=self._num_frames)
        self._control.exit()

    def _ask_buffer_size(self) -> int:
        answer = self._control.call("get_feature_buffer_size")
        try:
            size = operator.index(answer) % (1 << 32)  # as in C++, -1 is the maximum
        except TypeError:
            size = 0
        if size == 0:
            problem = f"get_feature_buffer_size returned {answer!r}; it must return a non-zero integer"
            raise CriticalError(f"{problem} [refsprint-scorer]")
        return size
