"""Check that posteriors are normalized: users pass logits by mistake."""

from __future__ import annotations

import logging

from .. import _ring
from ..errors import BatchError
from ..ring import FloatArray
from .options import Unnormalized

_log = logging.getLogger("shmbridge")

_TOLERANCE = 0.1  # of the sum; bfloat16 rounds each of its parts by up to 3 %


class NormalizationCheck:
    """Look at one frame of each segment, until it has warned.

    Args:
        reaction: to posteriors that are not normalized.

    Attributes:
        is_active: whether `check` has something to do.
    """

    def __init__(self, reaction: Unnormalized) -> None:
        self.is_active = reaction != "allow"
        self._may_raise = reaction == "error"

    def check(self, name: str, posteriors: FloatArray) -> None:
        """Check the middle frame of a segment.

        Args:
            name: the full segment name.
            posteriors: (time,label), log space, C-ordered, without NaN or plus infinity.

        Raises:
            BatchError: the frame does not sum to 1, and the option unnormalized_posteriors is "error".
        """
        total = _ring.sum_of_exponentials(posteriors)
        if abs(total - 1) <= _TOLERANCE:
            return
        problem = (
            f"the posteriors of segment {name!r} sum to {total:.3g} at time {len(posteriors) // 2}; they "
            "must sum to 1, as those of log_softmax do: pass log posteriors, or from_logits=True to "
            'SprintLoss. If this is intended, set unnormalized_posteriors="allow" [not-normalized]'
        )
        if self._may_raise:
            raise BatchError(problem)
        self.is_active = False
        _log.warning("%s", problem)
