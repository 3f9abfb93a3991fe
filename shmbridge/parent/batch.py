"""A batch: its requests, where their answers go, and all its errors."""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, Optional, TypeVar

import numpy as np

from ..errors import ShmbridgeError, without_traceback
from ..ring import Array, FloatArray, Record
from .child import Child
from .request import Request, RequestState
from .statistics import Counters

_log = logging.getLogger("shmbridge")


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

    def __new__(
        cls, loss: FloatArray, error_signal: FloatArray, skipped: Optional[Array] = None
    ) -> BatchResult:
        """Create the tuple. By default, segments with an infinite loss are the skipped ones."""
        result = tuple.__new__(cls, (loss, error_signal))
        result.skipped = np.isinf(loss) if skipped is None else skipped
        return result

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> BatchResult:  # type: ignore[override] # it is generic
        return cls(*iterable)

    def _replace(self, **changes: Any) -> BatchResult:
        return type(self)(
            **{"loss": self.loss, "error_signal": self.error_signal, "skipped": self.skipped, **changes}
        )

    __replace__ = _replace  # for copy.replace

    def __getnewargs__(self) -> tuple[Array, ...]:  # for pickle and copy
        """Return the arguments of __new__."""
        return self.loss, self.error_signal, self.skipped


class Batch:
    """The shared state of one call's requests.

    Args:
        statistics: the pool's.
        children: the pool's.

    Attributes:
        children: those that answer the requests.
        requests: in the order in which they are sent.
        outstanding: the number of requests that are not answered.
        errors: the errors by segment name, the first one first.
    """

    def __init__(self, statistics: Counters, children: Sequence[Child]) -> None:
        self.statistics = statistics
        self.children = children
        self.requests: list[BatchRequest[Any]] = []
        self.outstanding = 0
        self.errors: dict[str, ShmbridgeError] = {}

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


AnyBatch = TypeVar("AnyBatch", bound=Batch)


class BatchRequest(Request, Generic[AnyBatch]):
    """A request that belongs to a batch.

    Args:
        batch: the batch.
        name: the full segment name.
    """

    def __init__(self, batch: AnyBatch, name: str) -> None:
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
        batch.errors.setdefault(self.name, error)  # the segment may be in the batch twice
        batch.statistics.failed += 1

    @abc.abstractmethod
    def _take_matrix(self, record: Record) -> None: ...
