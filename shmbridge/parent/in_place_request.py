"""A segment in place, as the scheduler sees it: it stores the answer until the user asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ..errors import ShmbridgeError
from ..ring import Claim, FloatArray, Record
from .arguments import invalid_error
from .copying import copy_checked
from .request import Request, RequestState
from .segment_result import SegmentResult

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

_IN_FLIGHT, _DONE = RequestState.IN_FLIGHT, RequestState.DONE  # global names cost less on the hot path


class InPlaceRequest(Request):
    """The scheduler's side of a segment that was claimed: it stores the answer until the user asks for it.

    Args:
        pool: the pool's parts.
        name: the full segment name.
        rows, columns: of the posteriors.
        kept: the posteriors, for a retry on another child; None if a retry is not allowed.

    Attributes:
        result: the result, once there is one.
        error: the error, once there is one.
        awaited: whether the user has asked for the result.
    """

    result: Optional[SegmentResult] = None
    error: Optional[ShmbridgeError] = None
    awaited = False

    def __init__(
        self, pool: Lifecycle, name: str, rows: int, columns: int, kept: Optional[FloatArray]
    ) -> None:
        self.pool = pool
        self.name = name
        self.rows = rows
        self.columns = columns
        self._kept = kept

    def fill(self, claim: Claim) -> None:
        """Copy the posteriors to another child than the one for which they were claimed.

        Raises:
            BatchError: there is an invalid value, which the child that ended may have written.
        """
        invalid = None if self._kept is None else copy_checked(claim.matrix, self._kept)
        if invalid is not None:
            raise invalid_error(self.name, claim.matrix, invalid)

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment."""
        if self.is_open:
            self.fail(error)
            self.error = None
            self.result = SegmentResult(self.name, (self.rows, self.columns), None)

    def spill(self) -> bool:
        """Copy a result that nobody has asked for out of the ring. Return whether it was there."""
        return not self.awaited and self.result is not None and self.result.copy_out()

    def accept(self, record: Record) -> None:
        """Store the result."""
        if self.state is _IN_FLIGHT:
            self.state = _DONE
            rows, columns = self.rows, self.columns
            self.result = result = SegmentResult(self.name, (rows, columns), record)
            self.pool.statistics.count(result.skipped, rows * columns)
            self._kept = None
            if not self.awaited:
                self.pool.scheduler.unclaimed.add(self)

    def _take_error(self, error: ShmbridgeError) -> None:
        self.pool.statistics.failed += 1
        self.error = error
        self._kept = None
