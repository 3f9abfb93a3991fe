"""Loss and error signal from Sprint's callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from ..errors import BatchError, UsageError
from ..ring import Array
from .request import SegmentRequest

Callback = Callable[..., Any]


class SprintCallback:
    """Sprint's callback, and whether Sprint is answering it just now.

    To answer what is asked by segment name, Sprint first reads the whole corpus once, in the segment order:
    it calls getSegmentList again, from within the callback.

    Args:
        function: what Sprint gave to `init` or `run_control_loop`.

    Attributes:
        busy: whether a call is under way.
    """

    def __init__(self, function: Callback) -> None:
        self._function = function
        self.busy = False

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Call Sprint; errors are Sprint's own (KeyError for an unknown segment, …)."""
        self.busy = True
        try:
            return self._function(command, **arguments)
        finally:
            self.busy = False


# Log posteriors in, and y - y_hat out: the gradient before the softmax. Sprint is configured with
# input-in-log-space=true.
OUTPUT_ERROR_TYPE = "error-signal"


def compute(
    callback: SprintCallback,
    segment: SegmentRequest,
    *,
    orthography: Optional[str] = None,
    alignment: Optional[Array] = None,
) -> None:
    """Answer the segment with what `calculate_criterion` gives for it (see RASR's Nn/PythonControl.cc).

    Args:
        callback: Sprint's, as given to `init` or `run_control_loop`.
        segment: posteriors (time,label).
        orthography: with the trailing blank that Sprint gave it: without, Sprint aborts.
        alignment: instead of an orthography, where Sprint extracts alignments.
    """
    if 0 in segment.posteriors.shape:
        raise BatchError(f"the posteriors are {segment.posteriors.shape} (time,label); Sprint aborts at that")
    target: dict[str, Any] = (
        {"orthography": orthography} if orthography is not None else {"alignment": alignment}
    )
    if orthography is None and alignment is None:
        raise UsageError("Sprint gave neither an orthography nor an alignment for this segment")
    segment.expect_answer()
    loss, error_signal = callback(
        "calculate_criterion",
        # (label,time), and the one layout that Sprint takes with a single memcpy
        posteriors=segment.posteriors.T,
        output_error_type=OUTPUT_ERROR_TYPE,
        segment_name=segment.name,
        **target,
    )
    if loss is None:
        segment.skip()
        return
    if not isinstance(error_signal, np.ndarray):
        raise UsageError(
            f"Sprint's criterion gave a loss but {type(error_signal).__name__} for an error signal"
        )
    segment.give(loss=float(loss), error_signal=error_signal.T)
