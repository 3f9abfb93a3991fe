"""The two ends of a ring, and its records as numpy arrays.

Claim, fill, commit is what a producer does; receive, read, release what a consumer does. The positions
move in C only (csrc/ring.c). An array over a record keeps the record: its place in the ring is not used
again before the last array that views it is gone.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Optional

import numpy as np

from ._native import ffi, lib
from .doorbell import Doorbell
from .errors import ProtocolError, SegmentTooLargeError, UsageError
from .memory import Memory

Array = np.ndarray[Any, np.dtype[Any]]

# Looked up once: these stand in what runs for each segment.
_OK, _EMPTY, _BAD_SPAN = lib.SHMB_OK, lib.SHMB_EMPTY, lib.SHMB_BAD_SPAN

_DTYPES: dict[int, np.dtype[Any]] = {
    lib.SHMB_FLOAT32: np.dtype(np.float32),
    lib.SHMB_UINT32: np.dtype(np.uint32),
    lib.SHMB_UINT8: np.dtype(np.uint8),
}


class RingEnd:
    """What producer and consumer have in common.

    Thread-safety: all methods may be called from any thread.

    Args:
        memory: the mapping in which the ring lies.
        lines_offset: where its positions lie, in bytes.
        records_offset: where its records lie, in bytes.
        capacity: bytes of records.
        peer_doorbell: rung when there is news for the other end.
    """

    _role: int

    def __init__(
        self,
        memory: Memory,
        lines_offset: int,
        records_offset: int,
        capacity: int,
        peer_doorbell: Doorbell,
    ) -> None:
        pointer = lib.shmb_ring_open(
            memory.pointer, lines_offset, records_offset, capacity, self._role, peer_doorbell.pointer
        )
        if pointer == ffi.NULL:
            raise MemoryError("no memory for a ring end")
        self.pointer: Any = ffi.gc(pointer, lib.shmb_ring_free)
        self.capacity = capacity

    def disown(self) -> None:
        """After a fork, in the child of the fork: leave the ring to the parent for good."""
        lib.shmb_ring_disown(self.pointer)

    @property
    def released(self) -> int:
        """The position up to which the consumer has released, as this end knows."""
        return int(lib.shmb_ring_released(self.pointer))

    @property
    def used(self) -> int:
        """Bytes that are claimed, sent and not yet released, or received and not yet released."""
        return int(lib.shmb_ring_used(self.pointer))

    def _raise(self, result: int) -> None:
        if result == lib.SHMB_CORRUPT:
            value, limit = ffi.new("uint64_t *"), ffi.new("uint64_t *")
            problem = lib.shmb_ring_problem(self.pointer, value, limit)
            raise ProtocolError(
                f"the ring in shared memory is corrupt: {ffi.string(problem).decode()} "
                f"(found {value[0]}, expected or limit {limit[0]})"
            )
        if result == lib.SHMB_DISOWNED:
            raise UsageError(
                "this ring belongs to the process from which this one was forked; "
                "create a pool of its own in each process"
            )
        if result == lib.SHMB_NO_MEMORY:
            raise MemoryError("no memory for the list of records in use")
        if result == lib.SHMB_BAD_SPAN:
            raise UsageError("this claim was already committed or aborted")
        raise ProtocolError(f"unexpected result {result} of the ring")


class Producer(RingEnd):
    """The end that claims, fills and commits records."""

    _role = lib.SHMB_PRODUCER

    def claim(
        self,
        kind: int,
        rows: int,
        columns: int,
        *,
        name: bytes = b"",
        sequence: int = 0,
        dtype: Optional[int] = None,
    ) -> Optional[Claim]:
        """Claim a record whose matrix is (rows, columns), float32 unless `dtype` says otherwise.

        Returns:
            None where there is no room now, but the consumer will make some.

        Raises:
            SegmentTooLargeError: there never will be room.
            BufferError: there is no room until this side sends, aborts or deletes what it holds.
            ProtocolError: the consumer has written nonsense.
        """
        dtype = lib.SHMB_FLOAT32 if dtype is None else dtype
        if rows >= 1 << 32 or columns >= 1 << 32:
            self.check_size(rows, columns, len(name), dtype)
        record = ffi.new("shmb_record *")
        record.kind = kind
        record.dtype = dtype
        record.rows = rows
        record.columns = columns
        record.sequence = sequence
        record.name_length = len(name)
        result = lib.shmb_ring_claim(self.pointer, record, name)
        if result == _OK:
            return Claim(self, record, sequence, (rows, columns))
        if result == lib.SHMB_FULL:
            return None
        if result == lib.SHMB_HELD:
            raise BufferError(
                f"no room for {rows} x {columns}: {self.used} of {self.capacity} bytes of the ring "
                "are claims that were not sent and arrays that are still held; send, abort or "
                "delete them, or raise the option ring_size"
            )
        if result == lib.SHMB_TOO_LARGE:
            self.check_size(rows, columns, len(name), dtype)
        self._raise(result)
        return None

    def check_size(self, rows: int, columns: int, name_length: int, dtype: int = lib.SHMB_FLOAT32) -> None:
        """Raise SegmentTooLargeError where such a record cannot fit into this ring, however empty."""
        if name_length > lib.SHMB_NAME_MAX:
            raise SegmentTooLargeError(
                f"a segment name of {name_length} bytes is too long: {lib.SHMB_NAME_MAX} are possible"
            )
        fits = max(rows, columns) < 1 << 32
        size = lib.shmb_record_size(dtype, rows, columns, name_length) if fits else 0
        if size == 0 or size > self.capacity:
            if size == 0:
                raise SegmentTooLargeError(f"{rows} x {columns} is more than a record can ever have")
            raise SegmentTooLargeError(
                f"{rows} x {columns} needs {size / 1e6:.3f} MB ({size} bytes) in the ring, which has "
                f"{self.capacity / 1e6:.3f} MB ({self.capacity} bytes): set the option ring_size to at "
                f"least {size}"
            )


class Claim:
    """A record that is being filled. Dropping it unsent aborts it.

    Attributes:
        sequence: the number that the answer will carry.
        position: in the ring.
        shape: of the matrix.
        open: whether it is neither committed nor aborted.
    """

    __slots__ = ("_matrix", "_producer", "_record", "open", "position", "sequence", "shape")

    def __init__(self, producer: Producer, record: Any, sequence: int, shape: tuple[int, int]) -> None:
        self._producer = producer
        self._record = record
        self.position = record.position
        self._matrix: Optional[Array] = None
        self.open = True
        self.sequence = sequence
        self.shape = shape

    @property
    def matrix(self) -> Array:
        """The array to fill.

        It may be kept: after the commit it shows what was sent, and its place in the ring stays taken.

        Raises:
            UsageError: the claim was committed or aborted.
        """
        if self._matrix is None:
            anchored = lib.shmb_ring_anchor(self._producer.pointer, self.position) if self.open else _BAD_SPAN
            if anchored != _OK:
                self._producer._raise(anchored)
            self._matrix = _view(self._producer, self._record, lib.shmb_ring_unanchor)
        return self._matrix

    def expect_landing(self) -> None:
        """Let the next array of this size that our handler allocates in this thread be the matrix."""
        record = self._record
        nbytes = self.shape[0] * self.shape[1] * _DTYPES[record.dtype].itemsize
        lib.shmb_landing_expect(self._producer.pointer, self.position, record.matrix, nbytes)

    def holds(self, array: Array) -> bool:
        """Whether the array is this claim's matrix: the same address, shape, dtype and order."""
        return (
            array.shape == self.shape
            and array.dtype == _DTYPES[self._record.dtype]
            and array.flags.c_contiguous
            and bool(ffi.from_buffer("void *", array) == self._record.matrix)
        )

    def commit(self, status: int = lib.SHMB_ANSWERED, loss: float = 0.0, states: int = 0) -> None:
        """Hand the record to the consumer. Claims reach it in the order in which they were claimed."""
        result = lib.shmb_ring_commit(self._producer.pointer, self.position, status, loss, states)
        if result != _OK:
            self._producer._raise(result)
        self.open = False
        self._matrix = None

    def abort(self) -> None:
        """Give the record up; the consumer passes it over."""
        result = lib.shmb_ring_abort(self._producer.pointer, self.position)
        if result != _OK:
            self._producer._raise(result)
        self.open = False
        self._matrix = None

    def __del__(self) -> None:
        if self.open:
            lib.shmb_ring_abort(self._producer.pointer, self.position)


class Consumer(RingEnd):
    """The end that receives and releases records."""

    _role = lib.SHMB_CONSUMER

    def receive(self) -> Optional[Record]:
        """The next record, or None where there is none.

        Raises:
            ProtocolError: the producer has written nonsense. The ring cannot be used any more.
        """
        record = ffi.new("shmb_record *")
        result = lib.shmb_ring_receive(self.pointer, record)
        if result == _OK:
            return Record(self, record)
        if result == _EMPTY:
            return None
        self._raise(result)
        return None


class Record:
    """A record that was received. It is released when this object and all arrays over it are gone.

    Attributes:
        matrix: the array over it, (rows, columns); None once released.
        name: the segment name, as bytes.
        sequence: the number of the request.
        kind, status, loss, states: as in csrc/shmbridge.h.
    """

    __slots__ = ("kind", "loss", "matrix", "name", "sequence", "states", "status")

    def __init__(self, consumer: Consumer, record: Any) -> None:
        self.kind = int(record.kind)
        self.status = int(record.status)
        self.sequence = int(record.sequence)
        self.loss = float(record.loss)
        self.states = int(record.states)
        self.name = bytes(ffi.buffer(record.name, record.name_length)) if record.name_length else b""
        self.matrix: Optional[Array] = _view(consumer, record, lib.shmb_ring_release)

    def release(self) -> None:
        """Give the record's place back.

        Raises:
            BufferError: an array still views the record; it is then released when that one is gone.
        """
        if self.matrix is None:
            return
        alive = weakref.ref(self.matrix)
        self.matrix = None
        if alive() is not None:
            self.matrix = alive()
            raise BufferError(
                "the record cannot be released: an array still views it; delete that array, or copy it first"
            )


def _view(end: RingEnd, record: Any, destructor: Any) -> Array:
    """The record's matrix; `destructor(end, position)` is called when the last view of it is gone."""
    dtype = _DTYPES[record.dtype]
    shape = (int(record.rows), int(record.columns))
    owner = ffi.gc(record.matrix, functools.partial(destructor, end.pointer, record.position))
    buffer = ffi.buffer(owner, shape[0] * shape[1] * dtype.itemsize)
    array: Array = np.ndarray(shape, dtype, buffer)
    return array
