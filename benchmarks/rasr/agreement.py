"""Check that all ways compute the same losses and error signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ..peers import PeerFailedError
from .work import Array

LOSS_TOLERANCE = 1e-4  # relative
_MIN_ERROR_TOLERANCE = 1e-4  # of a probability


def check_losses(names: Sequence[str], losses: Array, expected: Array) -> None:
    """Compare the losses of a round with those without a parent.

    Args:
        names: segment names.
        losses: (batch,).
        expected: (batch,).

    Raises:
        PeerFailedError: a loss differs by more than 1e-4 of its value.
    """
    same = np.isclose(losses, expected, rtol=LOSS_TOLERANCE, atol=0)
    for b in np.flatnonzero(~same)[:1]:
        raise PeerFailedError(
            f"the loss of {names[b]} is {losses[b]:g}; without a parent it is {expected[b]:g}"
        )


def check_error_signals(
    names: Sequence[str], losses: Array, error_signal: Optional[Array], expected: Optional[Array]
) -> None:
    """Compare the error signals of a round with shmbridge's.

    RASR adds logarithms in float32, so an entry is only as exact as the rounding of the loss.

    Args:
        names: segment names.
        losses: (batch,).
        error_signal: (time,batch,label); if None, nothing is compared.
        expected: the same.

    Raises:
        PeerFailedError: an entry differs by more than 1e-4, or four roundings of the loss.
    """
    if error_signal is None or expected is None:
        return
    for b, (name, loss) in enumerate(zip(names, losses)):
        tolerance = max(_MIN_ERROR_TOLERANCE, 4 * float(np.spacing(np.float32(loss))))
        # `not <=`, so that NaN fails.
        difference = float(np.abs(error_signal[:, b] - expected[:, b]).max())
        if not difference <= tolerance:
            raise PeerFailedError(f"the error signal of {name} differs from the bridge's by {difference:g}")
