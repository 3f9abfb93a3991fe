"""A submitted batch, as the scheduler sees it: its segments report their answers to the handle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, cast

from ..errors import ShmbridgeError, UsageError
from ..ring import Claim, Record
from .arguments import BatchArguments
from .batch import BatchResult
from .batch_handle import BatchHandle, CompletedSegment
from .request import RequestState, no_answer
from .segment_request import SegmentBatch, SegmentRequest, add_segments
from .waits import check_no_open_claim

if TYPE_CHECKING:
    from .lifecycle import Lifecycle


Settlement = Callable[[], None]
"""Gives a handle its result, without the pool's lock."""


class Submission:
    """The arguments of a submitted batch, and its state once it has begun.

    Args:
        handle: the user's.
        arguments: of the batch, checked.
    """

    def __init__(self, handle: BatchHandle, arguments: BatchArguments) -> None:
        self.handle = handle
        self._arguments = arguments
        self._batch: Optional[SubmittedBatch] = None

    @property
    def is_over(self) -> bool:
        """Whether each segment is answered or has failed, or the batch was cancelled."""
        return self.handle.cancelled() or (self._batch is not None and self._batch.outstanding == 0)

    def begin(self, pool: Lifecycle) -> None:
        """Queue the segments. The caller holds the lock.

        Raises:
            ShmbridgeError: as in SprintInstancePool.get_batch_loss_and_error_signal, before anything is sent.
        """
        pool.check_open()
        scheduler = pool.scheduler
        scheduler.restart_dead_children()
        batch = SubmittedBatch(pool, self.handle, len(self._arguments[2]))
        add_segments(pool, batch, SubmittedSegment, *self._arguments)
        check_no_open_claim(scheduler.children)
        scheduler.queue.extend(batch.requests)
        self._batch = batch

    def settlement(self, pool: Lifecycle) -> Settlement:
        """Return a function that gives the handle the result, or the errors of the segments that failed."""
        if self.handle.cancelled():
            self._discard()
            return self.handle.settle_as_cancelled
        batch = cast(SubmittedBatch, self._batch)  # it has begun
        posteriors, _, names, error_signal = self._arguments
        result = BatchResult(batch.loss, error_signal, batch.skipped)
        batch.requests.clear()  # each refers to the batch: the cycle would keep the user's arrays alive
        try:
            batch.raise_errors(result)
        except ShmbridgeError as error:
            return functools.partial(self.handle.settle, None, error.with_traceback(None))
        if names:
            pool.last_num_labels = posteriors.shape[2]
        return functools.partial(self.handle.settle, result, None)

    def failed(self, error: BaseException) -> Settlement:
        """Return a function that gives the handle an error. Answers that are still to come are discarded."""
        self._discard()
        return functools.partial(self.handle.settle, None, error.with_traceback(None))

    def _discard(self) -> None:
        if self._batch is not None:
            self._batch.cancel()
            self._batch.requests.clear()  # as above


class SubmittedBatch(SegmentBatch):
    """The shared state of a submitted batch.

    Args:
        pool, size: as in SegmentBatch.
        handle: the user's.

    Attributes:
        handle: the user's.
        unsent: the number of segments whose posteriors are still needed; with restarts, until the end.
    """

    def __init__(self, pool: Lifecycle, handle: BatchHandle, size: int) -> None:
        super().__init__(pool, size)
        self.handle = handle
        self.unsent = size + pool.may_retry


class SubmittedSegment(SegmentRequest[SubmittedBatch]):
    """One segment of a submitted batch."""

    def fill(self, claim: Claim) -> None:
        """Copy the posteriors into the claim.

        Raises:
            BatchError: as SegmentRequest.
            UsageError: the batch was cancelled.
        """
        if not self._batch.handle.begin():
            self.cancel()
            raise UsageError(f"segment {self.name!r} is not sent: its batch was cancelled [cancelled]")
        super().fill(claim)

    def sent(self) -> None:
        """Zero the error signal beyond the segment while Sprint computes."""
        super().sent()
        batch = self._batch
        batch.unsent -= 1
        if batch.unsent == 0:
            batch.handle.note_sent()

    def accept(self, record: Record) -> None:
        """Take the answer, and report it."""
        try:
            super().accept(record)
        except BaseException:  # Ctrl-C in a call of another thread, which delivers this answer too
            self._batch.errors.setdefault(self.name, no_answer(self))
            raise
        self._report()

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment, and report it."""
        super().skip(error)
        self._report()

    def _report(self) -> None:
        if self.state is RequestState.DONE:
            batch, index, error_signal = self._batch, self._index, self._error_signal
            view = None if error_signal is None else error_signal[: self.rows]
            batch.handle.note_answer(CompletedSegment(index, float(batch.loss[index]), view))
