"""Requests answered through Sprint's callback (see RASR's Nn/PythonControl.cc)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from ..errors import BatchError, UsageError
from ..ring import Array
from .request import AutomatonRequest, SegmentRequest

Callback = Callable[..., Any]

# Log posteriors in, y - y_hat out: the gradient before the softmax, if Sprint has input-in-log-space=true.
_OUTPUT_ERROR_TYPE = "error-signal"


def compute_criterion(
    callback: Callback,
    segment: SegmentRequest,
    *,
    orthography: Optional[str] = None,
    alignment: Optional[Array] = None,
) -> None:
    """Answer the segment with loss and error signal of Sprint's `calculate_criterion`.

    Args:
        callback: Sprint's, as passed to `init` or `run_control_loop`.
        segment: its posteriors are (time,label).
        orthography: with the trailing blank that Sprint passed; Sprint aborts without it.
        alignment: used without an orthography.

    Raises:
        BatchError: the posteriors are empty.
        UsageError: there is neither orthography nor alignment, or the callback returned no error signal.
    """
    posteriors = segment.posteriors
    if posteriors.size == 0:
        raise BatchError(
            f"the posteriors are {posteriors.shape} (time,label); they must not be empty: "
            "Sprint aborts on them [shape-in-sprint]"
        )
    if orthography is not None:
        target: dict[str, Any] = {"orthography": orthography}
    elif alignment is not None:
        target = {"alignment": alignment}
    else:
        raise UsageError(
            "Sprint passed neither an orthography nor an alignment for this segment; "
            "add an orthography to the corpus [sprint-output]"
        )
    segment.expect_answer()
    loss, error_signal = callback(
        "calculate_criterion",
        # (label,time): the one layout that Sprint copies with a single memcpy
        posteriors=posteriors.T,
        output_error_type=_OUTPUT_ERROR_TYPE,
        segment_name=segment.name,
        **target,
    )
    if loss is None:
        segment.skip()
        return
    if not isinstance(error_signal, np.ndarray):
        raise UsageError(
            f"Sprint's criterion returned a loss but {type(error_signal).__name__} for an error signal; "
            "it must return an array [sprint-output]"
        )
    segment.answer(float(loss), error_signal.T)


def compute_criterion_by_name(callback: Callback, segment: SegmentRequest) -> None:
    """Answer the segment as `compute_criterion` does, with the orthography that Sprint has for its name."""
    orthography = callback("get_orthography_by_segment_name", segment_name=segment.name)
    compute_criterion(callback, segment, orthography=orthography)


def export_automaton(callback: Callback, request: AutomatonRequest) -> None:
    """Answer the request with the allophone state automaton of its segment."""
    request.answer(*callback("export_allophone_state_fsa_by_segment_name", segment_name=request.name))


def no_callback(command: str, **_arguments: object) -> Any:
    """Raise a UsageError. Replaces Sprint's callback until Sprint passes one."""
    raise UsageError(
        f"Sprint passed no callback, so {command} cannot be called; "
        "enable python-control, or use a Python layer [no-callback]"
    )
