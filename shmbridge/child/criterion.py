"""Loss and error signal from Sprint's callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from ..errors import BatchError, UsageError
from ..ring import Array
from .request import SegmentRequest

Callback = Callable[..., Any]


# Log posteriors in, and y - y_hat out: the gradient before the softmax. Sprint is configured with
# input-in-log-space=true.
OUTPUT_ERROR_TYPE = "error-signal"


def compute(
    callback: Callback,
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
    posteriors = segment.posteriors
    if posteriors.size == 0:
        raise BatchError(
            f"the posteriors are {posteriors.shape} (time,label); Sprint aborts at that [shape-in-sprint]"
        )
    if orthography is not None:
        target: dict[str, Any] = {"orthography": orthography}
    elif alignment is not None:
        target = {"alignment": alignment}
    else:
        raise UsageError(
            "Sprint gave neither an orthography nor an alignment for this segment [sprint-output]"
        )
    segment.expect_answer()
    loss, error_signal = callback(
        "calculate_criterion",
        # (label,time), and the one layout that Sprint takes with a single memcpy
        posteriors=posteriors.T,
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
            " [sprint-output]"
        )
    segment.give(loss=float(loss), error_signal=error_signal.T)
