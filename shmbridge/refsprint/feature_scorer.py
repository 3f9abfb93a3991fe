"""PythonFeatureScorer: an acoustic model whose scores come from Python.

RASR creates one for ``feature-scorer-type=python-feature-scorer``, in any program with an acoustic model:
recognizers, and alignments in a flow network. The program resets the scorer, adds the features of a segment,
flushes them one by one, and looks up the scores of each frame. The first lookup computes all scores. The
options are RASR's: ``feature-dimension``, ``python-feature-scorer-output-dimension``.
"""

from __future__ import annotations

import operator
from typing import Optional

import numpy as np
import numpy.typing as npt

from .configuration import Configuration
from .console import CriticalError, FailedAssertionError
from .criterion import Model
from .matrices import vector_from_python
from .python_control import PythonControl

__all__ = ["FeatureScorer"]

Vector = npt.NDArray[np.floating]


class FeatureScorer:
    """Features in, scores out. Not thread-safe.

    Args:
        config: the options of the application.

    Attributes:
        num_labels: the number of scores per frame.

    Raises:
        CriticalError: the user's module failed, or returned a wrong buffer size.
        FailedAssertionError: the feature dimension is not set.
    """

    def __init__(self, config: Configuration) -> None:
        self._dimension = config.integer("feature-dimension", 0)
        self.num_labels = (
            config.integer("python-feature-scorer-output-dimension", 0) or Model(config).num_labels
        )
        if self._dimension == 0:
            raise FailedAssertionError("feature-dimension is not set [refsprint-scorer]")
        self._received = 0
        self._flushed = 0
        self._computed = False
        self._cached: Optional[tuple[int, Vector]] = None
        self._control = PythonControl(config, "PythonFeatureScorer")
        self._control.call("init", input_dim=self._dimension, output_dim=self.num_labels)
        self._buffer_size = self._ask_buffer_size()

    def reset(self) -> None:
        """Begin a segment."""
        self._control.call("reset", num_frames=self._received)
        self._received = 0
        self._flushed = 0
        self._computed = False
        self._cached = None

    def add_feature(self, feature: Vector) -> None:
        """Add a frame. If all frames before it have been flushed, it begins another segment."""
        if 0 < self._received <= self._flushed:
            self.reset()
        if self._received >= self._buffer_size or self._computed:
            problem = f"frame {self._received} is added to a full buffer, or after the first score"
            raise FailedAssertionError(f"{problem} [refsprint-scorer]")
        if len(feature) != self._dimension:
            raise CriticalError(
                f"feature-dimension is {self._dimension}; it must be {len(feature)} as in the features"
                " [refsprint-scorer]"
            )
        self._control.call("add_feature", feature=np.array(feature, np.float32), time=self._received)
        self._received += 1

    @property
    def is_empty(self) -> bool:
        """Whether all frames have been flushed."""
        return self._flushed >= self._received

    def flush(self) -> int:
        """Return the index of the next frame to score."""
        self._flushed += 1
        return self._flushed - 1

    def scores(self, position: int) -> Vector:
        """Return the scores of a frame: (label,), -ln of the probabilities. Only the last frame is cached."""
        if not self._computed:
            self._control.call("compute", num_frames=self._received)
            self._computed = True
        if self._cached is None or self._cached[0] != position:
            answer = self._control.call("get_scores", time=position)
            vector = vector_from_python(answer, "get_scores").astype(np.float32)
            if len(vector) != self.num_labels:
                problem = f"get_scores returned {len(vector)} scores; it must return {self.num_labels}"
                raise CriticalError(f"{problem} [refsprint-scorer]")
            self._cached = (position, vector)
        return self._cached[1]

    def exit(self) -> None:
        """End the user's object."""
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
