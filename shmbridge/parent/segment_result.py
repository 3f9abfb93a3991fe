"""Loss and error signal of one segment, where the child wrote them."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .._native import lib
from ..errors import UsageError
from ..ring import FloatArray, Record

_SKIPPED = lib.SHMB_SKIPPED  # a global name costs less on the hot path


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
        """Continue with a copy, to free the space in the ring. Return whether it occupied any."""
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
