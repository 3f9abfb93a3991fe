"""What the losses of a batch have in common: skipped segments, the reduction, the factor of the gradient."""

from __future__ import annotations

from typing import Callable

import numpy as np
import torch

from ..errors import BatchError
from ..ring import Array
from .arguments import Reduction, SkippedLoss


def replace_skipped(losses: Array, skipped: SkippedLoss, error: Callable[[Array], BatchError]) -> Array:
    """Replace the infinite losses (batch,), which skipped segments have, in place.

    Args:
        losses: of the segments.
        skipped: "zero" replaces them, "inf" leaves them.
        error: returns the error to raise if `skipped` is "error". Its argument is the result.

    Returns:
        (batch,) bool: which segments are not skipped.

    Raises:
        BatchError: a segment is skipped, and `skipped` is "error".
    """
    answered = ~np.isinf(losses)
    if not answered.all():
        if skipped == "error":
            raise error(answered)
        if skipped == "zero":
            losses[~answered] = 0
    return answered


def reduce_losses(loss: torch.Tensor, num_answered: int, reduction: Reduction) -> torch.Tensor:
    """Reduce the losses (batch,). "mean" divides by the number of segments that were not skipped."""
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / num_answered


def gradient_factors(grad_loss: torch.Tensor, answered: torch.Tensor, factor: float) -> torch.Tensor:
    """Return the factors (1,batch,1) for the derivatives (time,batch,label); 0 for skipped segments.

    Args:
        grad_loss: (batch,) the gradient of each loss.
        answered: (batch,) bool: which segments are not skipped.
        factor: of all.
    """
    # An infinite loss can make the incoming gradient infinite or NaN, which zeros do not cancel.
    return torch.where(answered, grad_loss * factor, 0)[None, :, None]
