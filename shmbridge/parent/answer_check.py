"""Find answers that train nothing: segments that Sprint skips, and error signals of zeros."""

from __future__ import annotations

import logging
from collections import deque
from typing import Optional

from .._native import lib
from ..errors import CriterionError
from ..ring import Record
from .options import Options
from .process import SprintProcess
from .statistics import Counters

_log = logging.getLogger("shmbridge")

_WINDOW = 100  # segments, of which the option skip_warning_share is a share


class AnswerCheck:
    """Examine the unusual answers of all children of a pool.

    Args:
        options: the pool's.
        statistics: the pool's running counters.
    """

    def __init__(self, options: Options, statistics: Counters) -> None:
        self._allow_zeros = options.allow_zero_error_signal
        self._warn_from = options.skip_warning_share * _WINDOW
        self._statistics = statistics
        self._skipped: deque[int] = deque()  # the numbers of the latest skipped segments
        self._next_warning = 0  # the number of the segment from which the share is reported again

    def examine(self, name: str, record: Record, process: SprintProcess) -> Optional[CriterionError]:
        """Examine an answer that is not a loss other than 0 with its error signal.

        Args:
            name: the full segment name.
            record: the answer, which is valid.
            process: which sent it.

        Returns:
            The error if Sprint computes no criterion.
        """
        if record.status == lib.SHMB_SKIPPED:
            self._note_skip(name, process)
            return None
        is_error_signal = record.kind == lib.SHMB_ERROR_SIGNAL and record.loss == 0.0
        if self._allow_zeros or not is_error_signal or record.matrix is None or record.matrix.any():
            return None
        return CriterionError(
            f"Sprint returned the loss 0.0 and an error signal of zeros for segment {name!r}: it computes no "
            "criterion; check training-criterion in its configuration, or set allow_zero_error_signal=True "
            "if a segment may have these [zero-error-signal]",
            reported=process.reported_errors(),
        )

    def _note_skip(self, name: str, process: SprintProcess) -> None:
        statistics = self._statistics
        number = statistics.segments + statistics.skipped
        self._skipped.append(number)
        while self._skipped[0] <= number - _WINDOW:
            self._skipped.popleft()
        count = len(self._skipped)
        if statistics.skipped == 0:
            _log.warning(
                "Sprint skipped segment %r: its loss is infinite, its error signal zero. Sprint's last line "
                "about it: %s [skipped]",
                name,
                process.last_line_with(name) or "none; often it has too few frames",
            )
        elif count >= self._warn_from and number >= self._next_warning:
            self._next_warning = number + _WINDOW
            _log.warning(
                "Sprint skipped %d of the last %d segments, the last one is %r: they train nothing; read "
                "Sprint's output, or raise skip_warning_share [skipped]",
                count,
                min(number + 1, _WINDOW),
                name,
            )
