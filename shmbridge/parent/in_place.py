"""What the user holds of a segment in place: an open claim, then the segment that was sent."""

from __future__ import annotations

from typing import Optional, Union

from .._native import lib
from ..errors import PeerGoneError, ProtocolError, UsageError, without_traceback
from ..ring import Claim, FloatArray
from .arguments import check_shape, decode_name, invalid_error
from .child import Child
from .child_state import ChildState
from .copying import find_invalid
from .in_place_request import InPlaceRequest
from .lifecycle import OPEN, Lifecycle
from .request import no_answer
from .segment_result import SegmentResult
from .waits import Answer, Room

_POSTERIORS = lib.SHMB_POSTERIORS  # a global name costs less on the hot path
_DEAD = ChildState.DEAD


class SentSegment:
    """A segment that was sent in place: a future for its result. From `SegmentClaim.send`.

    Thread-safety: the pool's.
    """

    __slots__ = ("_request",)

    def __init__(self, request: InPlaceRequest) -> None:
        self._request = request

    @property
    def name(self) -> str:
        """The full segment name."""
        return self._request.name

    def done(self) -> bool:
        """Return whether `result` returns or raises at once. Does not wait, nor for another thread's call."""
        pool = self._request.pool
        lock = pool.lock
        if self._request.is_open:
            try:
                if lock.acquire_now() and not pool.is_closed:
                    pool.scheduler.step()
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
            RemoteError, CriterionError: Python code in Sprint raised; Sprint computes no criterion.
            PeerGoneError: Sprint has ended.
            BridgeTimeoutError: the answer did not come in time; `result` may be called again.
            ClosedError: the pool was closed before the answer came.
        """
        request = self._request
        pool = request.pool
        lock = pool.lock
        try:  # not `with`, which costs more
            lock.acquire()
            if request.is_open:
                request.awaited = True
                try:
                    pool.check_can_wait()
                    scheduler = pool.scheduler
                    scheduler.run_until(Answer(request, scheduler.children, scheduler.queue), timeout)
                except BaseException:
                    request.awaited = False
                    raise
            if request.error is not None:
                raise without_traceback(request.error)
            request.awaited = True
            if request.result is None:
                raise no_answer(request)
            return request.result
        finally:
            lock.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self._request.state.value}>"


class SegmentClaim:
    """Shared memory for the posteriors of a segment. From `SprintInstancePool.claim`.

    If it is dropped before send(), or its with block ends before send(), the claim is abandoned.
    Thread-safety: the pool's.

    Attributes:
        name: the full segment name.
    """

    __slots__ = ("_child", "_claim", "_pool", "name")

    def __init__(self, pool: Lifecycle, child: Child, name: str, claim: Claim) -> None:
        self.name = name
        self._pool = pool
        self._child: Optional[Child] = child
        self._claim: Optional[Claim] = claim  # None: sent or aborted

    @property
    def posteriors(self) -> FloatArray:
        """(time,label) float32 in shared memory: write log posteriors into it.

        An array that is kept after `send` goes on showing what was sent; its space is not reused meanwhile.

        Raises:
            UsageError: the claim was sent or aborted.
        """
        if self._claim is None:
            raise self._not_open()
        return self._claim.matrix

    def send(self, *, check_nan: bool = True) -> SentSegment:
        """Send the posteriors to Sprint, without a copy.

        Args:
            check_nan: first look for a NaN, at which Sprint would abort, or plus infinity; and check that one
                frame is normalized.

        Raises:
            BatchError: the posteriors contain a NaN or plus infinity; or they are not normalized, and the
                option unnormalized_posteriors is "error". The claim stays open.
            UsageError: the claim was sent or aborted.
            PeerGoneError: the child has ended; claim the segment again.
            ClosedError: the pool was closed.
        """
        pool = self._pool
        lock = pool.lock
        try:  # not `with`, which costs more
            lock.acquire()
            if pool.state is not OPEN:  # saves a call in the usual case
                pool.check_open()
            claim, child = self._claim, self._child
            if claim is None:
                raise self._not_open()
            if check_nan:
                matrix = claim.matrix
                invalid = find_invalid(matrix)
                if invalid is not None:
                    raise invalid_error(self.name, matrix, invalid)
                if pool.normalization.is_active:
                    pool.normalization.check(self.name, matrix)
            may_retry = pool.may_retry
            is_lost = child is None or child.state is _DEAD
            if is_lost and not may_retry:
                raise _lost(self.name, child)
            rows, columns = claim.rows, claim.columns
            request = InPlaceRequest(pool, self.name, rows, columns, claim.matrix if may_retry else None)
            # In this order: Ctrl-C may come as soon as it is sent.
            self._claim = self._child = None
            if is_lost or child is None:
                pool.scheduler.queue.append(request)
            else:
                child.send(claim, request)
            # What can wait comes now, while Sprint computes.
            pool.statistics.posteriors_bytes += 4 * rows * columns
            return SentSegment(request)
        finally:
            lock.release()

    def abort(self) -> None:
        """Abandon the claim. Do nothing if it was sent or aborted."""
        with self._pool.lock:
            if self._claim is not None:
                self._claim.abort()
                self._claim = self._child = None

    def __enter__(self) -> SegmentClaim:
        return self

    def __exit__(self, *_: object) -> None:
        if self._claim is not None:
            self.abort()

    def _not_open(self) -> UsageError:
        return UsageError(f"segment {self.name!r} was already sent or aborted [claim-state]")


def claim_segment(pool: Lifecycle, name: Union[str, bytes], num_frames: int, num_labels: int) -> SegmentClaim:
    """Claim a record for the posteriors of a segment. The caller holds the lock.

    Args:
        pool: the pool's parts.
        name, num_frames, num_labels: as in SprintInstancePool.claim, which documents the errors too.
    """
    scheduler = pool.scheduler
    decoded, encoded = decode_name(name)
    scheduler.restart_dead_children()
    if not scheduler.queue:  # the usual case, without the cost of a Wait
        child = scheduler.least_loaded()
        of_option, of_last_batch = pool.options.num_labels, pool.last_num_labels
        check_shape(decoded, num_frames, num_labels, child.num_labels, of_option, of_last_batch)
        try:
            claim = child.try_claim(_POSTERIORS, num_frames, num_labels, encoded)
            if claim is not None:
                return SegmentClaim(pool, child, decoded, claim)
        except ProtocolError:  # the child was killed for it
            if not pool.may_retry:
                raise
    return _wait_for_claim(pool, decoded, encoded, num_frames, num_labels)


def _wait_for_claim(
    pool: Lifecycle, name: str, encoded: bytes, num_frames: int, num_labels: int
) -> SegmentClaim:
    def attempt(child: Child) -> Optional[Claim]:
        of_option, of_last_batch = pool.options.num_labels, pool.last_num_labels
        check_shape(name, num_frames, num_labels, child.num_labels, of_option, of_last_batch)
        try:
            return child.try_claim(_POSTERIORS, num_frames, num_labels, encoded)
        except ProtocolError:  # the child was killed for it
            if not pool.may_retry:
                raise
            return None

    scheduler = pool.scheduler
    room = Room(scheduler.least_loaded, attempt, scheduler.children, scheduler.queue)
    scheduler.run_until(room)
    return SegmentClaim(pool, room.child, name, room.claim)


def _lost(name: str, child: Optional[Child]) -> PeerGoneError:
    """Return the error for a claim whose child has ended."""
    error = None if child is None else child.error
    lost = PeerGoneError(
        f"the child for which segment {name!r} was claimed has ended; claim the segment again [claim-lost]; "
        f"its end: {error}",
        exit_code=getattr(error, "exit_code", None),
        signal_name=getattr(error, "signal_name", None),
    )
    lost.last_output = getattr(error, "last_output", ())  # the message quotes it in the child's error
    return lost
