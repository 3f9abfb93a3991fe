"""Whether all ways have computed the same: a way that has not is not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ..peers import PeerFailedError
from .work import Array

LOSS_TOLERANCE = 1e-4  # relative
_LEAST_ERROR_TOLERANCE = 1e-4  # of a probability


def check_losses(names: Sequence[str], losses: Array, expected: Array) -> None:
    """Hold the losses of a round against those without a parent.

    Args:
        names: of the segments.
        losses: (batch,).
        expected: (batch,).

    Raises:
        PeerFailedError: one differs by more than 1e-4 of its value.
    """
    same = np.isclose(losses, expected, rtol=LOSS_TOLERANCE, atol=0)
    for b in np.flatnonzero(~same)[:1]:
        raise PeerFailedError(
            f"the loss of {names[b]} is {losses[b]:g}; without a parent it is {expected[b]:g}"
        )


def check_error_signals(
    names: Sequence[str], losses: Array, error_signal: Optional[Array], expected: Optional[Array]
) -> None:
    """Hold the error signals of a round against the bridge's.

    RASR sums in float32 and logarithms: an entry is as exact as the rounding of the loss.

    Args:
        names: of the segments.
        losses: (batch,).
        error_signal: (time,batch,label); None is not compared.
        expected: the same.

    Raises:
        PeerFailedError: an entry differs by more than 1e-4, or four roundings of the loss.
    """
    if error_signal is None or expected is None:
        return
    for b, (name, loss) in enumerate(zip(names, losses)):
        tolerance = max(_LEAST_ERROR_TOLERANCE, 4 * float(np.spacing(np.float32(loss))))
        # Written so that NaN is no agreement.
        difference = float(np.abs(error_signal[:, b] - expected[:, b]).max())
        if not difference <= tolerance:
            raise PeerFailedError(f"the error signal of {name} differs from the bridge's by {difference:g}")
