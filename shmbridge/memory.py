"""The shared memory that both processes map, and the offsets of the rings in it."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

from ._native import ffi, lib
from .errors import OptionError, ResourceError

PAGE: int = lib.SHMB_PAGE
# As in the diagram in csrc/shmbridge.h: a page for the doorbell, one for both rings' positions, the records.
DOORBELL_OFFSET = 0
POSTERIORS_LINES = PAGE
ERROR_SIGNALS_LINES = PAGE + 2 * lib.SHMB_HEAD_OFFSET
RECORDS_OFFSET = 2 * PAGE
_POSITIONS = struct.Struct(f"=Q{lib.SHMB_HEAD_OFFSET - 8}xQ")  # tail and head of a ring
MIN_RING_SIZE = 16 * PAGE  # a failure report must fit next to a segment
MAX_RING_SIZE = 1 << 44


@dataclass(frozen=True)
class Geometry:
    """The sizes and offsets of the two rings in the shared-memory object, in bytes.

    Attributes:
        posteriors_size: capacity of the ring from parent to child.
        error_signals_size: capacity of the ring from child to parent.
    """

    posteriors_size: int
    error_signals_size: int

    def __post_init__(self) -> None:
        for size in (self.posteriors_size, self.error_signals_size):
            if not MIN_RING_SIZE <= size <= MAX_RING_SIZE or size % PAGE:
                raise OptionError(
                    f"ring_size is {size} bytes; it must be a multiple of {PAGE} from {MIN_RING_SIZE} to "
                    f"{MAX_RING_SIZE} [option-value]"
                )

    @classmethod
    def for_ring_size(cls, ring_size: int) -> Geometry:
        """Return the geometry of two rings of this size in bytes, rounded up to whole pages."""
        size = max(-(-ring_size // PAGE) * PAGE, MIN_RING_SIZE)
        return cls(size, size)

    @property
    def posteriors_offset(self) -> int:
        """The offset of the posteriors' records."""
        return RECORDS_OFFSET

    @property
    def error_signals_offset(self) -> int:
        """The offset of the error signals' records."""
        return RECORDS_OFFSET + self.posteriors_size

    @property
    def total_size(self) -> int:
        """The size of the object."""
        return RECORDS_OFFSET + self.posteriors_size + self.error_signals_size


class Memory:
    """A mapping of a shared-memory object.

    It stays mapped until this object, all doorbells and ring ends opened in it, and all arrays over their
    records are gone. No array ever points to unmapped memory.

    Args:
        descriptor: of the object; it may be closed afterwards.
        size: bytes to map.

    Raises:
        ResourceError: the object is smaller than `size`, or cannot be mapped.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        actual_size = os.fstat(descriptor).st_size
        if actual_size < size:
            raise ResourceError(
                f"the shared memory has {actual_size} bytes; it must have {size} [shared-memory]"
            )
        pointer = lib.shmb_memory_map(descriptor, size)
        if pointer == ffi.NULL:
            raise ResourceError(
                f"cannot map {size} bytes of shared memory: {os.strerror(ffi.errno)} [shared-memory]"
            )
        self.pointer: Any = ffi.gc(pointer, lib.shmb_memory_free)
        self.size = size

    @property
    def address(self) -> int:
        """The address of the mapping."""
        return int(ffi.cast("uintptr_t", lib.shmb_memory_at(self.pointer, 0, self.size)))

    def used(self, lines_offset: int, capacity: int) -> int:
        """Return the bytes of a ring that were sent but not released, by its current positions.

        Args:
            lines_offset: the offset of the positions: POSTERIORS_LINES or ERROR_SIGNALS_LINES.
            capacity: of the ring. The result is from 0 to this even if the peer wrote invalid positions.
        """
        lines = lib.shmb_memory_at(self.pointer, lines_offset, _POSITIONS.size)
        tail, head = _POSITIONS.unpack_from(ffi.buffer(lines, _POSITIONS.size))
        return int(min(max(tail - head, 0), capacity))
