"""What the user holds of the ring: an open claim, a segment that was sent, and its result."""

from __future__ import annotations

import weakref
from typing import Optional

import numpy as np

from .._native import lib
from ..errors import PeerGoneError, ShmbridgeError, UsageError, without_traceback
from ..ring import Claim, FloatArray, Record
from .batch import nan_error
from .child import Child, ChildState
from .copying import copy_rejecting_nan, find_nan
from .request import Request, no_answer
from .scheduler import Scheduler
from .statistics import Counters

_SKIPPED = lib.SHMB_SKIPPED  # a global name costs less on the hot path
_DEAD = ChildState.DEAD


class SegmentResult:
    """Loss and error signal of one segment.

    Use it as a context manager to release it at the end. If the block raises, arrays that still view the
    record do not raise a BufferError on top; the space is freed when they are collected.

    Attributes:
        name: the full segment name.
        loss: infinite if Sprint skipped the segment.
        skipped: whether it did.
    """

    __slots__ = ("_array", "_record", "loss", "name", "skipped")

    def __init__(self, name: str, shape: tuple[int, int], record: Optional[Record]) -> None:
        self.name = name
        self._record = record
        self._array: Optional[FloatArray] = None  # replaces the record's
        if record is None or record.status == _SKIPPED:
            self.skipped = True
            self.loss = float("inf")
            self._array = np.zeros(shape, np.float32)
            self._record = None
        else:
            self.skipped = False
            self.loss = record.loss

    @property
    def error_signal(self) -> FloatArray:
        """(time,label) float32 in shared memory. Its space is free once this object and all views are gone.

        It is a copy in private memory if it had to make room before its result was asked for.

        Raises:
            UsageError: the result was released.
        """
        array = self._array if self._record is None else self._record.matrix
        if array is None:
            raise UsageError(f"the result of segment {self.name!r} was released [claim-state]")
        return array

    def release(self) -> None:
        """Free its space in the ring.

        Raises:
            BufferError: an array still views it; the space is freed when that array is collected.
        """
        if self._record is not None:
            self._record.release()
        self._array = None

    def copy_out(self) -> bool:
        """Continue with a copy, to free the space in the ring. Return whether it had any."""
        if self._record is None or self._record.matrix is None:
            return False
        self._array = self._record.matrix.copy()
        self._record = None
        return True

    def __enter__(self) -> SegmentResult:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.release()
        else:  # a BufferError would hide the error, whose traceback may be all that keeps an array
            self._record = self._array = None


class InPlaceRequest(Request):
    """The scheduler's side of a segment that was claimed: it stores the answer until the user asks for it.

    Args:
        name: the full segment name.
        rows, columns: of the posteriors.
        kept: the posteriors, for a retry on another child; None if a retry is not allowed.
        statistics: the pool's.
        unclaimed: the answered requests whose results nobody has asked for.

    Attributes:
        result: the result, once there is one.
        error: the error, once there is one.
        awaited: whether the user has asked for the result.
    """

    result: Optional[SegmentResult] = None
    error: Optional[ShmbridgeError] = None
    awaited = False

    def __init__(
        self,
        name: str,
        rows: int,
        columns: int,
        kept: Optional[FloatArray],
        statistics: Counters,
        unclaimed: weakref.WeakSet[InPlaceRequest],
    ) -> None:
        self.name = name
        self.rows = rows
        self.columns = columns
        self._kept = kept
        self._statistics = statistics
        self._unclaimed = unclaimed

    def fill(self, claim: Claim) -> None:
        """Copy the posteriors to another child than the one for which they were claimed.

        Raises:
            BatchError: there is a NaN, which the child that ended may have written.
        """
        if self._kept is None:
            raise UsageError(f"the posteriors of segment {self.name!r} were not kept [claim-state]")
        nan = copy_rejecting_nan(claim.matrix, self._kept)
        if nan is not None:
            raise nan_error(self.name, nan)

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment."""
        if self.is_open:
            self.fail(error)
            self.error = None
            self.result = SegmentResult(self.name, (self.rows, self.columns), None)

    def spill(self) -> bool:
        """Copy a result that nobody has asked for out of the ring. Return whether it was there."""
        return not self.awaited and self.result is not None and self.result.copy_out()

    def _take(self, record: Record) -> None:
        self._statistics.count(record)
        self.result = SegmentResult(self.name, (self.rows, self.columns), record)
        self._kept = None
        if not self.awaited:
            self._unclaimed.add(self)

    def _take_error(self, error: ShmbridgeError) -> None:
        self._statistics.failed += 1
        self.error = error
        self._kept = None


class SentSegment:
    """A segment that was sent in place: a future for its result. From `SegmentClaim.send`.

    Thread-safety: the pool's.

    Attributes:
        name: the full segment name.
    """

    __slots__ = ("_request", "_scheduler", "name")

    def __init__(self, scheduler: Scheduler, request: InPlaceRequest) -> None:
        self.name = request.name
        self._scheduler = scheduler
        self._request = request

    def done(self) -> bool:
        """Return whether `result` has an answer or an error. Never blocks, also not for another thread."""
        lock = self._scheduler.lock
        if self._request.is_open and lock.acquire(blocking=False):
            try:
                self._scheduler.poll_if_open()
            finally:
                lock.release()
        return not self._request.is_open

    def result(self, timeout: Optional[float] = None) -> SegmentResult:
        """Wait for loss and error signal. May be called again.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            UsageError: a segment that was claimed earlier on the same child is not sent.
            BufferError: results that were taken earlier fill the ring, and are still held.
            RemoteError: Python code in Sprint raised.
            PeerGoneError: Sprint has ended.
            BridgeTimeoutError: the answer did not come in time; `result` may be called again.
            ClosedError: the pool was closed before the answer came.
        """
        request, scheduler = self._request, self._scheduler
        with scheduler.lock:
            if request.is_open:
                request.awaited = True
                try:
                    scheduler.await_answer(request, timeout)
                except BaseException:
                    request.awaited = False
                    raise
            if request.error is not None:
                raise without_traceback(request.error)
            request.awaited = True
            if request.result is None:
                raise no_answer(request)
            return request.result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self._request.state.value}>"


class SegmentClaim:
    """Shared memory for the posteriors of a segment. From `SprintInstancePool.claim`.

    If it is dropped before send(), or its with block ends before send(), the claim is abandoned.
    Thread-safety: the pool's.

    Attributes:
        name: the full segment name.
    """

    __slots__ = ("_child", "_claim", "_scheduler", "name")

    def __init__(self, scheduler: Scheduler, child: Child, name: str, claim: Claim) -> None:
        self.name = name
        self._scheduler = scheduler
        self._child: Optional[Child] = child
        self._claim: Optional[Claim] = claim  # None: sent or aborted

    @property
    def posteriors(self) -> FloatArray:
        """(time,label) float32 in shared memory: write log posteriors into it.

        An array that is kept after `send` goes on showing what was sent; its space is not reused meanwhile.

        Raises:
            UsageError: the claim was sent or aborted.
        """
        return self._open_claim().matrix

    def send(self, *, check_nan: bool = True) -> SentSegment:
        """Send the posteriors to Sprint, without a copy.

        Args:
            check_nan: look for a NaN first, at which Sprint would abort.

        Raises:
            BatchError: the posteriors contain a NaN. The claim stays open.
            UsageError: the claim was sent or aborted.
            PeerGoneError: the child has ended; claim the segment again.
            ClosedError: the pool was closed.
        """
        # Not `with`, which costs 0.1 us more of a round trip of 8.
        scheduler = self._scheduler
        lock = scheduler.lock
        lock.acquire()
        try:
            scheduler.check_open()
            claim, child = self._open_claim(), self._child
            if check_nan:
                nan = find_nan(claim.matrix)
                if nan is not None:
                    raise nan_error(self.name, nan)
            may_retry = scheduler.max_restarts > 0
            is_lost = child is None or child.state is _DEAD
            if is_lost and not may_retry:
                raise _lost(self.name, child)
            request = InPlaceRequest(
                self.name,
                claim.rows,
                claim.columns,
                claim.matrix if may_retry else None,
                scheduler.statistics,
                scheduler.unclaimed,
            )
            sent = SentSegment(scheduler, request)
            # In this order: Ctrl-C may come as soon as it is sent.
            self._claim = self._child = None
            if is_lost or child is None:
                scheduler.queue.append(request)
            else:
                child.send(claim, request)
            scheduler.statistics.posteriors_bytes += 4 * request.rows * request.columns
            return sent
        finally:
            lock.release()

    def abort(self) -> None:
        """Abandon the claim. Do nothing if it was sent or aborted."""
        with self._scheduler.lock:
            if self._claim is not None:
                self._claim.abort()
                self._claim = self._child = None

    def __enter__(self) -> SegmentClaim:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _open_claim(self) -> Claim:
        if self._claim is None:
            raise UsageError(f"segment {self.name!r} was already sent or aborted [claim-state]")
        return self._claim


def _lost(name: str, child: Optional[Child]) -> PeerGoneError:
    """Return the error for a claim whose child has ended."""
    error = None if child is None else child.error
    return PeerGoneError(
        f"the child for which segment {name!r} was claimed has ended; claim the segment again [claim-lost]; "
        f"its end: {error}",
        exit_code=getattr(error, "exit_code", None),
        signal_name=getattr(error, "signal_name", None),
    )
