"""A batch: its requests, where their answers go, and all its errors."""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from .._native import lib
from ..errors import BatchError, ShmbridgeError, without_traceback
from ..ring import Array, Claim, FloatArray, Record
from .child import Child
from .copying import copy_out, copy_rejecting_nan
from .placement import second_thread_is_free
from .request import Request, RequestState
from .statistics import Counters

_log = logging.getLogger("shmbridge")

# The last argument of both: whether a second thread may copy.
# (target in the ring, source, …) -> (time, label) of the first NaN, at which the copy ended, or None
CopyIn = Callable[[FloatArray, Any, bool], Optional[tuple[int, int]]]
# (target, source in the ring, …); the source is released afterwards
CopyOut = Callable[[Any, FloatArray, bool], None]


class _LossAndErrorSignal(NamedTuple):
    loss: FloatArray
    error_signal: FloatArray


class BatchResult(_LossAndErrorSignal):
    """The result of a batch: a tuple of two, (loss, error_signal), as RETURNN has it.

    Attributes:
        loss: (batch,) float32; infinite for skipped segments.
        error_signal: (time,batch,label) float32.
        skipped: (batch,) bool: the segments that Sprint skipped.
    """

    skipped: np.ndarray[Any, np.dtype[np.bool_]]

    def __new__(cls, loss: FloatArray, error_signal: FloatArray, skipped: Array) -> BatchResult:
        """Create the tuple."""
        result = tuple.__new__(cls, (loss, error_signal))
        result.skipped = skipped
        return result

    def __getnewargs__(self) -> tuple[Array, ...]:  # for pickle and copy
        """Return the arguments of __new__."""
        return self.loss, self.error_signal, self.skipped


class Batch:
    """The shared state of one call's requests.

    Args:
        statistics: the pool's.
        children: the pool's.

    Attributes:
        requests: in the order in which they are sent.
        outstanding: the number of requests that are not answered.
        errors: the errors by segment name, the first one first.
    """

    def __init__(self, statistics: Counters, children: Sequence[Child]) -> None:
        self.statistics = statistics
        self._children = children
        self.requests: list[BatchRequest] = []
        self.outstanding = 0
        self.errors: dict[str, ShmbridgeError] = {}

    def second_thread(self) -> bool:
        """Return whether a second thread may copy a large matrix now."""
        return second_thread_is_free(self._children)

    def cancel(self) -> None:
        """Discard all answers that are still to come."""
        for request in self.requests:
            request.cancel()

    def raise_errors(self, partial: Optional[BatchResult] = None) -> None:
        """Log all errors, and raise the first.

        It has all of them in `failed`, and `partial`: what the other segments gave.
        """
        if not self.errors:
            return
        for error in list(dict.fromkeys(self.errors.values()))[1:]:  # a death fails several requests
            _log.error("%s", error)
        error = without_traceback(next(iter(self.errors.values())))
        error.failed = dict(self.errors)
        error.partial = partial
        try:
            raise error
        finally:
            del error  # the error's traceback refers to this frame, which must not refer back


class BatchRequest(Request):
    """A request that belongs to a batch.

    Args:
        batch: the batch.
        name: the full segment name.
    """

    def __init__(self, batch: Batch, name: str) -> None:
        self.name = name
        self._batch = batch
        batch.requests.append(self)
        batch.outstanding += 1

    def accept(self, record: Record) -> None:
        """Count the answer, and take its matrix."""
        if self.state is RequestState.IN_FLIGHT:
            self.state = RequestState.DONE
            self._batch.outstanding -= 1
            self._take_matrix(record)

    def _take_error(self, error: ShmbridgeError) -> None:
        batch = self._batch
        batch.outstanding -= 1
        batch.errors[self.name] = error
        batch.statistics.failed += 1

    @abc.abstractmethod
    def _take_matrix(self, record: Record) -> None: ...


class SegmentRequest(BatchRequest):
    """One segment of a batch: posteriors into the ring, loss and error signal out of it.

    Args:
        batch: the batch.
        index: of the segment in the batch.
        name: the full segment name.
        posteriors: (time,label), only the segment's own frames.
        loss: (batch,) float32; [index] is written.
        skipped: (batch,) bool; [index] is written.
        error_signal: (time,label) with the whole batch's time; zeroed beyond the segment. None: the error
            signal is not stored.
        copy_in: copies the posteriors into a claim, as copying.copy_rejecting_nan does.
        copy_out: copies a received error signal, as copying.copy_out does.
    """

    def __init__(
        self,
        batch: Batch,
        index: int,
        name: str,
        posteriors: Any,
        loss: FloatArray,
        skipped: Array,
        error_signal: Any,
        *,
        copy_in: CopyIn = copy_rejecting_nan,
        copy_out: CopyOut = copy_out,
    ) -> None:
        super().__init__(batch, name)
        self.rows, self.columns = posteriors.shape
        self._index = index
        self._posteriors = posteriors
        self._loss = loss
        self._skipped = skipped
        self._error_signal = error_signal
        self._copy_in = copy_in
        self._copy_out = copy_out

    def fill(self, claim: Claim) -> None:
        """Copy the posteriors into the claim.

        Raises:
            BatchError: the posteriors contain a NaN.
        """
        batch = self._batch
        begin = time.perf_counter()
        nan = self._copy_in(claim.matrix, self._posteriors, batch.second_thread())
        batch.statistics.copy_seconds += time.perf_counter() - begin
        if nan is not None:
            raise nan_error(self.name, nan, self._index)

    def sent(self) -> None:
        """Zero the error signal beyond the segment while Sprint computes."""
        self._batch.statistics.posteriors_bytes += 4 * self.rows * self.columns
        if self._error_signal is not None:
            self._error_signal[self.rows :] = 0

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment."""
        if self.is_open:
            self.fail(error)
            del self._batch.errors[self.name]
            self._take_skip()

    def _take_matrix(self, record: Record) -> None:
        batch = self._batch
        matrix = record.matrix
        is_skipped = record.status == lib.SHMB_SKIPPED
        batch.statistics.count(is_skipped, self.rows * self.columns)
        if is_skipped or matrix is None:
            self._take_skip()
            return
        self._loss[self._index] = record.loss
        if self._error_signal is not None:
            begin = time.perf_counter()
            self._copy_out(self._error_signal[: self.rows], matrix, batch.second_thread())
            batch.statistics.copy_seconds += time.perf_counter() - begin

    def _take_skip(self) -> None:
        self._loss[self._index] = np.inf
        self._skipped[self._index] = True
        if self._error_signal is not None:
            self._error_signal[: self.rows] = 0


def nan_error(name: str, nan: tuple[int, int], index: Optional[int] = None) -> BatchError:
    """Return the error that says where the NaN is."""
    where = "" if index is None else f" (index {index} of the batch)"
    return BatchError(
        f"the posteriors of segment {name!r}{where} are NaN at time {nan[0]}, label {nan[1]}; Sprint would "
        "abort at a NaN [nan]"
    )
