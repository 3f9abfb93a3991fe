"""Segments of a batch: posteriors into the ring, losses and error signals out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, TypeVar

import numpy as np

from .._native import lib
from ..errors import ShmbridgeError
from ..ring import Claim, FloatArray, Record
from .arguments import invalid_error
from .batch import Batch, BatchRequest, BatchResult
from .copying import copy_checked, copy_out
from .placement import second_thread_is_free
from .request import RequestState

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

_SKIPPED = lib.SHMB_SKIPPED  # a global name costs less on the hot path

# The last argument of both: whether a second thread may copy.
# (target in the ring, source, …) -> (time, label) of the first NaN or +inf, at which the copy ended, or None
CopyIn = Callable[[FloatArray, Any, bool], Optional[tuple[int, int]]]
# (target, source in the ring, …); the source is released afterwards
CopyOut = Callable[[Any, FloatArray, bool], None]


class SegmentBatch(Batch):
    """The shared state of one call's segments: where their results go, and how they are copied.

    Args:
        pool: the pool's parts.
        size: the number of segments.
        copy_in: copies posteriors into a claim, as copying.copy_checked does.
        copy_out: copies a received error signal, as copying.copy_out does.

    Attributes:
        loss: (batch,) float32; NaN for segments that are not answered.
        skipped: (batch,) bool.
        normalization: the pool's.
        copy_in, copy_out: as above.
    """

    def __init__(
        self, pool: Lifecycle, size: int, copy_in: CopyIn = copy_checked, copy_out: CopyOut = copy_out
    ) -> None:
        super().__init__(pool.statistics, pool.scheduler.children)
        self.loss: FloatArray = np.empty(size, np.float32)
        self.loss.fill(np.nan)
        self.skipped = np.zeros(size, np.bool_)
        self.normalization = pool.normalization
        self.copy_in = copy_in
        self.copy_out = copy_out


AnySegmentBatch = TypeVar("AnySegmentBatch", bound=SegmentBatch)


class SegmentRequest(BatchRequest[AnySegmentBatch]):
    """One segment of a batch: posteriors into the ring, loss and error signal out of it.

    Args:
        batch: the batch.
        index: of the segment in the batch.
        name: the full segment name.
        posteriors: (time,label), only the segment's own frames.
        error_signal: (time,label) with the whole batch's time; zeroed beyond the segment. None: the error
            signal is not stored.
    """

    def __init__(
        self, batch: AnySegmentBatch, index: int, name: str, posteriors: Any, error_signal: Any
    ) -> None:
        super().__init__(batch, name)
        self.rows, self.columns = posteriors.shape
        self._index = index
        self._posteriors = posteriors
        self._error_signal = error_signal
        self.takes_loss_alone = error_signal is None

    def fill(self, claim: Claim) -> None:
        """Copy the posteriors into the claim.

        Raises:
            BatchError: the posteriors contain a NaN or plus infinity, or are not normalized.
        """
        batch = self._batch
        begin = time.perf_counter()
        matrix = claim.matrix
        invalid = batch.copy_in(matrix, self._posteriors, second_thread_is_free(batch.children))
        batch.statistics.copy_seconds += time.perf_counter() - begin
        if invalid is not None:
            raise invalid_error(self.name, matrix, invalid, self._index)
        if batch.normalization.is_active:
            batch.normalization.check(self.name, matrix)

    def sent(self) -> None:
        """Zero the error signal beyond the segment while Sprint computes."""
        self._batch.statistics.posteriors_bytes += 4 * self.rows * self.columns
        if self._error_signal is not None:
            self._error_signal[self.rows :] = 0

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment."""
        if self.is_open:
            self.state = RequestState.DONE
            self._batch.outstanding -= 1
            self._batch.statistics.failed += 1
            self._take_skip()

    def _take_matrix(self, record: Record) -> None:
        batch = self._batch
        matrix = record.matrix
        is_skipped = record.status == _SKIPPED
        batch.statistics.count(is_skipped, record.rows * record.columns)
        if is_skipped or matrix is None:
            self._take_skip()
            return
        batch.loss[self._index] = record.loss
        if self._error_signal is not None:
            begin = time.perf_counter()
            batch.copy_out(self._error_signal[: self.rows], matrix, second_thread_is_free(batch.children))
            batch.statistics.copy_seconds += time.perf_counter() - begin

    def _take_skip(self) -> None:
        self._batch.loss[self._index] = np.inf
        self._batch.skipped[self._index] = True
        if self._error_signal is not None:
            self._error_signal[: self.rows] = 0


def add_segments(
    pool: Lifecycle,
    batch: AnySegmentBatch,
    request_type: type[SegmentRequest[AnySegmentBatch]],
    posteriors: Any,
    lengths: list[int],
    names: list[str],
    error_signal: Any,
) -> None:
    """Add the requests to a batch, the longest first.

    Args:
        pool: the pool's parts.
        batch: has no requests yet.
        request_type: of the requests.
        posteriors, lengths, names, error_signal: as in run_segments.

    Raises:
        SegmentTooLargeError: a segment does not fit into a ring.
    """
    if names:
        longest_name = max(map(len, map(str.encode, names)))
        sender = pool.scheduler.least_loaded().channel.sender
        sender.check_size(max(lengths), posteriors.shape[2], longest_name)
    for b, (name, length) in enumerate(zip(names, lengths)):
        error_segment = None if error_signal is None else error_signal[:, b]
        request_type(batch, b, name, posteriors[:length, b], error_segment)
    if len(names) > 1:
        batch.requests.sort(key=lambda request: request.rows, reverse=True)


def run_segments(
    pool: Lifecycle,
    posteriors: Any,
    lengths: list[int],
    names: list[str],
    error_signal: Any,
    copy_in: CopyIn = copy_checked,
    copy_out: CopyOut = copy_out,
) -> BatchResult:
    """Send the segments of a batch, and return their answers. The caller holds the lock.

    Args:
        pool: the pool's parts.
        posteriors, error_signal: as in SprintInstancePool.run_batch.
        lengths, names: as arguments.check_segments returns them.
        copy_in, copy_out: as in SegmentBatch.

    Raises:
        ShmbridgeError: as in SprintInstancePool.get_batch_loss_and_error_signal.
    """
    scheduler = pool.scheduler
    scheduler.restart_dead_children()
    batch = SegmentBatch(pool, len(names), copy_in, copy_out)
    add_segments(pool, batch, SegmentRequest, posteriors, lengths, names, error_signal)
    scheduler.run(batch)
    result = BatchResult(batch.loss, error_signal, batch.skipped)
    batch.raise_errors(result)
    if names:
        pool.last_num_labels = posteriors.shape[2]
    return result
