"""Tensors over what lies in shared memory, for `SprintInstancePool.claim`."""

from __future__ import annotations

import torch

from ..parent import SegmentClaim, SegmentResult


def posteriors_of(segment: SegmentClaim) -> torch.Tensor:
    """The posteriors of a claim, to write into: `torch.log_softmax(logits, -1, out=posteriors_of(segment))`.

    Args:
        segment: from `SprintInstancePool.claim`, not sent yet.

    Returns:
        (time,label) float32 on the CPU, in shared memory. It may be kept after `send`; it then shows what was
        sent, and its place is not used anew meanwhile.

    Raises:
        UsageError: the claim was sent or given up.
    """
    return torch.from_numpy(segment.posteriors)


def error_signal_of(result: SegmentResult) -> torch.Tensor:
    """The error signal of a result, where Sprint's side wrote it: `logits.backward(error_signal_of(result))`.

    Args:
        result: from `SegmentClaim.result`, not released yet.

    Returns:
        (time,label) float32 on the CPU, in shared memory: the gradient of the loss with respect to the
        logits, y - y_hat; zeros where Sprint discarded the segment. `release` raises BufferError while it is
        held.

    Raises:
        UsageError: the result was released.
    """
    return torch.from_numpy(result.error_signal)
