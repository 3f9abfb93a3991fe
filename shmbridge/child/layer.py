"""The bottom layer of a network in Sprint: its output is the parent's posteriors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UsageError
from ..ring import Array
from .connect import connect
from .output import detail, log_call
from .request import SprintParts


class SprintNnPythonLayer:
    """The implementation of a layer with layer-type=python. Sprint calls it by keyword.

    Not thread-safe: Sprint calls it from one thread.

    Args:
        config: the value of Sprint's option pymod-config, which the parent writes.
        _newer: keywords that a newer RASR may add. Not used.
    """

    def __init__(self, config: str, **_newer: object) -> None:
        self._control = connect(name="shmbridge.SprintNnPythonLayer", config=config)
        self._control.parts |= SprintParts.POSTERIORS
        self.input_sizes: dict[int, int] = {}  # of each stream
        self.output_size = 0

    def finalize(self) -> None:
        """Log that Sprint is done with the layer."""
        log_call("layer: finalize")

    def setInputDimension(self, stream: int, size: int) -> None:  # noqa: N802 - Sprint's name
        """Store the number of rows of an input stream. Sprint calls this for each stream.

        Args:
            stream: the index of the input stream.
            size: its number of rows.
        """
        self.input_sizes[stream] = size

    def setOutputDimension(self, size: int) -> None:  # noqa: N802
        """Store the number of labels; the parent rejects posteriors with another number from then on."""
        self.output_size = size
        self._control.set_label_dimension(size)

    def initializeNetworkParameters(self) -> None:  # noqa: N802
        """Do nothing: the trainer has the parameters."""
        log_call("layer: initializeNetworkParameters: none here")

    def loadNetworkParameters(self, filename: str) -> None:  # noqa: N802
        """Do nothing: the trainer has the parameters."""
        log_call(f"layer: loadNetworkParameters {filename!r}: none here")

    def saveNetworkParameters(self, filename: str) -> None:  # noqa: N802
        """Do nothing: the trainer has the parameters."""
        log_call(f"layer: saveNetworkParameters {filename!r}: none here")

    def isTrainable(self) -> bool:  # noqa: N802
        """Return True, because Sprint does not backpropagate to a layer that is not trainable."""
        return True

    def getNumberOfFreeParameters(self) -> int:  # noqa: N802
        """Return 0: the trainer has the parameters."""
        return 0

    def forward(self, input: Sequence[Array]) -> Array:  # noqa: A002 - Sprint's name
        """Return the posteriors of the current segment.

        Args:
            input: a list of matrices (input_size,time) float32, one for each stream. Only their number of
                frames counts.

        Returns:
            (output_size,time) float32, log space: a view of the shared memory, in the one layout that Sprint
            copies with a single memcpy. If the parent sent posteriors of another shape, the parent receives a
            BatchError and Sprint receives uniform posteriors, so that it continues.

        Raises:
            UsageError: the input is not one matrix for each stream, all with the same number of frames; or no
                segment is current.
        """
        shapes = [matrix.shape for matrix in input]
        frames = shapes[0][-1] if shapes else 0
        if len(shapes) != len(self.input_sizes) or any(len(s) != 2 or s[1] != frames for s in shapes):
            raise UsageError(
                f"the inputs of the Python layer are {shapes}; there must be {len(self.input_sizes)} "
                "matrices (input_size,time), with the same number of frames [sprint-output]"
            )
        detail(f"layer: forward, {frames} frames")
        posteriors = self._control.get_current_seg_posteriors(seg_len=frames, num_labels=self.output_size)
        transposed: Array = posteriors.T
        return transposed

    def backpropagate(self, errorSignalIn: Array) -> tuple[Array, ...]:  # noqa: N803
        """Store the error signal of the current segment.

        Args:
            errorSignalIn: (output_size,time) float32.

        Returns:
            A tuple of matrices of zeros (input_size,time), one for each stream: nothing below learns.

        Raises:
            UsageError: no segment is current.
        """
        frames = errorSignalIn.shape[1]
        detail(f"layer: backpropagate, {frames} frames")
        self._control.set_current_seg_error_signal(seg_len=frames, error_signal=errorSignalIn.T)
        sizes = self.input_sizes
        return tuple(np.zeros((sizes[stream], frames), np.float32, order="F") for stream in sorted(sizes))
