"""PythonFeatureScorer: RASR's acoustic model whose scores come from Python.

RASR makes one for ``feature-scorer-type=python-feature-scorer``, in any of its programs that has an
acoustic model: recognisers, and alignments in a flow network. Whoever uses it resets it, adds the features
of a segment, flushes them one by one, and looks scores up, frame by frame; at the first look all of them
are computed. The options are RASR's: ``feature-dimension``, ``python-feature-scorer-output-dimension``.
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

    Errors:
        CriticalError: the user's module failed, or gave no buffer size.
        FailedAssertionError: no feature dimension is set.

    Attributes:
        labels: the number of scores of a frame.
    """

    def __init__(self, config: Configuration) -> None:
        self._dimension = config.integer("feature-dimension", 0)
        self.labels = config.integer("python-feature-scorer-output-dimension", 0) or Model(config).label_count
        if self._dimension == 0:
            raise FailedAssertionError("inputDimension_ > 0: feature-dimension is not set [refsprint-scorer]")
        self._received = 0
        self._flushed = 0
        self._computed = False
        self._cached: Optional[tuple[int, Vector]] = None
        self._control = PythonControl(config, "PythonFeatureScorer")
        self._control.call("init", input_dim=self._dimension, output_dim=self.labels)
        self._buffer_size = self._ask_buffer_size()

    def reset(self) -> None:
        """A segment begins."""
        self._control.call("reset", num_frames=self._received)
        self._received = 0
        self._flushed = 0
        self._computed = False
        self._cached = None

    def add_feature(self, feature: Vector) -> None:
        """The next frame. After the last one was flushed, it is the first of another segment."""
        if 0 < self._received <= self._flushed:
            self.reset()
        if self._received >= self._buffer_size or self._computed:
            raise FailedAssertionError(
                f"frame {self._received} is added to a full buffer, or too late [refsprint-scorer]"
            )
        if len(feature) != self._dimension:
            raise CriticalError(
                f"feature-dimension is {self._dimension}, the features have {len(feature)} [refsprint-scorer]"
            )
        self._control.call("add_feature", feature=np.array(feature, np.float32), time=self._received)
        self._received += 1

    @property
    def is_empty(self) -> bool:
        """Whether all frames have been flushed."""
        return self._flushed >= self._received

    def flush(self) -> int:
        """The next frame to be scored."""
        self._flushed += 1
        return self._flushed - 1

    def scores(self, position: int) -> Vector:
        """The scores of a frame: (label,), -log space. One frame's are kept, as in RASR."""
        if not self._computed:
            self._control.call("compute", num_frames=self._received)
            self._computed = True
        if self._cached is None or self._cached[0] != position:
            answer = self._control.call("get_scores", time=position)
            vector = vector_from_python(answer, "get_scores").astype(np.float32)
            if len(vector) != self.labels:
                raise CriticalError(
                    f"get_scores returned {len(vector)} scores, {self.labels} are wanted [refsprint-scorer]"
                )
            self._cached = (position, vector)
        return self._cached[1]

    def exit(self) -> None:
        """Nobody needs the scorer any more."""
        self._control.exit()

    def _ask_buffer_size(self) -> int:
        answer = self._control.call("get_feature_buffer_size")
        try:
            size = operator.index(answer) % (1 << 32)  # C++ takes -1 for the largest there is
        except TypeError:
            raise CriticalError(
                f"get_feature_buffer_size returned {answer!r}, no integer [refsprint-scorer]"
            ) from None
        if size == 0:
            raise CriticalError("get_feature_buffer_size returned 0 [refsprint-scorer]")
        return size
