"""PythonFeatureScorer: an acoustic model whose scores come from Python.

RASR creates one for ``feature-scorer-type=python-feature-scorer``, in any program with an acoustic model:
recognizers, and alignments in a flow network. Python receives all features of a segment, computes all scores,
and then returns the scores of each frame.
"""

from __future__ import annotations

import operator

import numpy as np

from .configuration import Configuration
from .console import CriticalError, FailedAssertionError
from .criterion import Model
from .matrices import Matrix, vector_from_python
from .python_control import PythonControl

__all__ = ["FeatureScorer"]


class FeatureScorer:
    """Computes scores of features. Not thread-safe.

    Args:
        config: the options of the application.

    Raises:
        CriticalError: the user's module failed, or returned a wrong buffer size.
        FailedAssertionError: the feature dimension is not set.
    """

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
        """Return the scores of a segment: (time, label) float32, -ln of the probabilities.

        Args:
            features: (dimension, time) float32.
        """
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
        """End the user's object."""
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
