"""The bottom layer of a network in Sprint: its output is the parent's posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from ..ring import Array
from .control import connect
from .output import detail, report


class SprintNnPythonLayer:
    """Sprint creates one of these for a layer with layer-type=python, and calls it by keyword.

    Not thread-safe: Sprint calls it from one thread.

    Args:
        config: the config string; `connect` is called with it.
    """

    def __init__(self, config: str, **_kwargs: Any) -> None:
        self._control = connect(name="shmbridge.SprintNnPythonLayer", reference=self, config=config)
        self.input_size = 0
        self.output_size = 0

    def finalize(self) -> None:
        """Called when Sprint is done with the layer."""
        report("layer: finalize")

    def setInputDimension(self, stream: int, size: int) -> None:  # noqa: N802 - Sprint's name
        """The number of rows of the input. The layer has one input stream.

        Raises:
            UsageError: a second stream is to be connected.
        """
        if stream != 0:
            raise UsageError(
                f"the layer takes one input stream; Sprint connects stream {stream} [sprint-output]"
            )
        self.input_size = size

    def setOutputDimension(self, size: int) -> None:  # noqa: N802
        """The number of labels that Sprint expects; posteriors of another width are refused from now on."""
        self.output_size = size
        self._control.set_label_dimension(size)

    def initializeNetworkParameters(self) -> None:  # noqa: N802
        """Nothing to do: the parameters are the trainer's."""
        report("layer: initializeNetworkParameters: none here")

    def loadNetworkParameters(self, filename: str) -> None:  # noqa: N802
        """Nothing to do: the parameters are the trainer's."""
        report(f"layer: loadNetworkParameters {filename!r}: none here")

    def saveNetworkParameters(self, filename: str) -> None:  # noqa: N802
        """Nothing to do: the parameters are the trainer's."""
        report(f"layer: saveNetworkParameters {filename!r}: none here")

    def isTrainable(self) -> bool:  # noqa: N802
        """True: without that Sprint would not backpropagate to this layer."""
        return True

    def getNumberOfFreeParameters(self) -> int:  # noqa: N802
        """0: the parameters are the trainer's."""
        return 0

    def forward(self, input: Sequence[Array]) -> Array:  # noqa: A002 - Sprint's name
        """The posteriors of the current segment.

        Args:
            input: one (input_size,time) matrix, in a list or tuple; only its length in time is looked at.

        Returns:
            (output_size,time) float32, log space: a view of the shared memory, whose layout Sprint copies
            with one memcpy. Where the segment has other posteriors than Sprint can take, the parent gets an
            error and Sprint gets uniform ones, so that it goes on.
        """
        if len(input) != 1 or input[0].ndim != 2:
            shapes = [matrix.shape for matrix in input]
            raise UsageError(
                f"forward takes one (input_size,time) matrix; Sprint gave {shapes} [sprint-output]"
            )
        frames = input[0].shape[1]
        detail(f"layer: forward, {frames} frames")
        posteriors = self._control.get_current_seg_posteriors(seg_len=frames, labels=self.output_size)
        transposed: Array = posteriors.T
        return transposed

    def backpropagate(self, errorSignalIn: Array) -> tuple[Array]:  # noqa: N803
        """Take the error signal of the current segment.

        Args:
            errorSignalIn: (output_size,time).

        Returns:
            A 1-tuple of zeros (input_size,time): nothing below this layer learns.
        """
        frames = errorSignalIn.shape[1]
        detail(f"layer: backpropagate, {frames} frames")
        self._control.set_current_seg_error_signal(seg_len=frames, error_signal=errorSignalIn.T)
        return (np.zeros((self.input_size, frames), np.float32, order="F"),)
