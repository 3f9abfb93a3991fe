"""The two ends of a ring, and its records as numpy arrays.

A producer claims, fills and commits records; a consumer receives, reads and releases them. Only C moves the
positions (csrc/ring.c). While an array views a record, the ring does not reuse the record's space.
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
    """The base class of producer and consumer.

    Thread-safety: all methods may be called from any thread.

    Args:
        memory: the mapping that contains the ring.
        lines_offset: the offset of the ring's positions, in bytes.
        records_offset: the offset of its records, in bytes.
        capacity: bytes of records.
        peer_doorbell: rung when this end commits or releases records.
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
        self.pointer: Any = pointer  # valid as long as this object
        self.capacity = capacity

    def disown(self) -> None:
        """Leave the ring to the forking process; for the child of a fork. Later calls raise UsageError."""
        lib.shmb_ring_disown(self.pointer)

    @property
    def released(self) -> int:
        """The position up to which the consumer has released, as far as this end knows."""
        return int(lib.shmb_ring_released(self.pointer))

    @property
    def used(self) -> int:
        """Bytes that are claimed, sent but not released, or received but not released."""
        return int(lib.shmb_ring_used(self.pointer))

    def _raise_result(self, result: int) -> None:
        if result == lib.SHMB_CORRUPT:
            value, limit = ffi.new("uint64_t *"), ffi.new("uint64_t *")
            problem = lib.shmb_ring_problem(self.pointer, value, limit)
            raise ProtocolError(
                f"the ring in shared memory is corrupt: {ffi.string(problem).decode()} "
                f"(found {value[0]}, expected or limit {limit[0]}) [ring-corrupt]"
            )
        if result == lib.SHMB_DISOWNED:
            raise UsageError(
                "this process is a fork, and the ring belongs to the process that forked it; create a pool "
                "in each process, and end a fork of Sprint in the code that forks [forked]"
            )
        if result == lib.SHMB_NO_MEMORY:
            raise MemoryError("no memory for the list of records in use [out-of-memory]")
        if result == lib.SHMB_BAD_SPAN:
            raise UsageError("this claim was already committed or aborted [claim-state]")
        raise ProtocolError(f"unexpected ring result {result} [ring-corrupt]")


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
        """Claim a record whose matrix is (rows, columns), float32 by default.

        Returns:
            The claim, or None if there is no room until the consumer releases records.

        Raises:
            SegmentTooLargeError: the record does not fit even into an empty ring.
            BufferError: the ring has no room until this end commits or aborts claims, or deletes arrays.
            ProtocolError: the consumer wrote an invalid value.
            ValueError: the kind or dtype is not one of records.
        """
        return self.claim_record(
            kind, lib.SHMB_FLOAT32 if dtype is None else dtype, rows, columns, sequence, name
        )

    def _raise_claim_error(self, result: int, dtype: int, rows: int, columns: int, name: bytes) -> None:
        """Raise the exception for a claim that failed, unless waiting helps. `claim_record` calls this."""
        if result == lib.SHMB_FULL:
            return
        if result == lib.SHMB_HELD:
            raise BufferError(
                f"no room for {rows} x {columns}: unsent claims and held arrays take {self.used} of the "
                f"ring's {self.capacity} bytes; send, abort or delete them, or increase the option "
                "ring_size [ring-full]"
            )
        if result == lib.SHMB_TOO_LARGE:
            self.check_size(rows, columns, len(name), dtype)
        self._raise_result(result)

    def check_size(self, rows: int, columns: int, name_length: int, dtype: int = lib.SHMB_FLOAT32) -> None:
        """Raise SegmentTooLargeError if such a record does not fit into this ring even when it is empty."""
        if name_length > lib.SHMB_NAME_MAX:
            raise SegmentTooLargeError(
                f"the segment name has {name_length} bytes; it must have at most {lib.SHMB_NAME_MAX}"
                " [segment-too-large]"
            )
        is_uint32 = max(rows, columns) < 1 << 32
        size = lib.shmb_record_size(dtype, rows, columns, name_length) if is_uint32 else 0
        if size == 0:
            raise SegmentTooLargeError(
                f"{rows} x {columns} is larger than any record can be; split the segment [segment-too-large]"
            )
        if size > self.capacity:
            raise SegmentTooLargeError(
                f"{rows} x {columns} needs {size / 1e6:.3f} MB ({size} bytes), but the ring has "
                f"{self.capacity / 1e6:.3f} MB ({self.capacity} bytes); set the option ring_size to at "
                f"least {size} [segment-too-large]"
            )


class Consumer(RingEnd):
    """The end that receives and releases records."""

    _role = lib.SHMB_CONSUMER
