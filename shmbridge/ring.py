"""The two ends of a ring, and its records as numpy arrays.

Claim, fill, commit is what a producer does; receive, read, release what a consumer does. The positions
move in C only (csrc/ring.c). An array over a record keeps the record: its place in the ring is not used
again before the last array that views it is gone.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ._native import ffi, lib
from ._ring import Claim, End, Record
from .doorbell import Doorbell
from .errors import ProtocolError, SegmentTooLargeError, UsageError
from .memory import Memory

Array = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float32]]

__all__ = ["Array", "Claim", "Consumer", "FloatArray", "Producer", "Record", "RingEnd"]


class RingEnd(End):
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
            raise MemoryError("no memory for a ring end [out-of-memory]")
        self._own(int(ffi.cast("uintptr_t", pointer)))
        self.pointer: Any = pointer  # valid for as long as this object
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
                f"(found {value[0]}, expected or limit {limit[0]}) [ring-corrupt]"
            )
        if result == lib.SHMB_DISOWNED:
            raise UsageError(
                "this ring belongs to the process from which this one was forked; "
                "create a pool of its own in each process [forked]"
            )
        if result == lib.SHMB_NO_MEMORY:
            raise MemoryError("no memory for the list of records in use [out-of-memory]")
        if result == lib.SHMB_BAD_SPAN:
            raise UsageError("this claim was already committed or aborted [claim-state]")
        raise ProtocolError(f"unexpected result {result} of the ring [ring-corrupt]")


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
            ValueError: records have no such kind or dtype.
        """
        return self.claim_record(
            kind, lib.SHMB_FLOAT32 if dtype is None else dtype, rows, columns, sequence, name
        )

    def _no_claim(self, result: int, dtype: int, rows: int, columns: int, name: bytes) -> None:
        """What C calls where `claim_record` got no record: returns where waiting helps, else raises."""
        if result == lib.SHMB_FULL:
            return
        if result == lib.SHMB_HELD:
            raise BufferError(
                f"no room for {rows} x {columns}: {self.used} of {self.capacity} bytes of the ring "
                "are claims that were not sent and arrays that are still held; send, abort or "
                "delete them, or raise the option ring_size [ring-full]"
            )
        if result == lib.SHMB_TOO_LARGE:
            self.check_size(rows, columns, len(name), dtype)
        self._raise(result)

    def check_size(self, rows: int, columns: int, name_length: int, dtype: int = lib.SHMB_FLOAT32) -> None:
        """Raise SegmentTooLargeError where such a record cannot fit into this ring, however empty."""
        if name_length > lib.SHMB_NAME_MAX:
            raise SegmentTooLargeError(
                f"a segment name of {name_length} bytes is too long: {lib.SHMB_NAME_MAX} are possible"
                " [segment-too-large]"
            )
        fits = max(rows, columns) < 1 << 32
        size = lib.shmb_record_size(dtype, rows, columns, name_length) if fits else 0
        if size == 0 or size > self.capacity:
            if size == 0:
                raise SegmentTooLargeError(
                    f"{rows} x {columns} is more than a record can ever have [segment-too-large]"
                )
            raise SegmentTooLargeError(
                f"{rows} x {columns} needs {size / 1e6:.3f} MB ({size} bytes) in the ring, which has "
                f"{self.capacity / 1e6:.3f} MB ({self.capacity} bytes): set the option ring_size to at "
                f"least {size} [segment-too-large]"
            )


class Consumer(RingEnd):
    """The end that receives and releases records."""

    _role = lib.SHMB_CONSUMER
