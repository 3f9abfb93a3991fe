"""The shared memory that both processes map, and where in it the rings lie."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

from ._native import ffi, lib
from .errors import OptionError, ResourceError

PAGE: int = lib.SHMB_PAGE
# The diagram in csrc/shmbridge.h: a page for the doorbell, one for the positions of both rings, the records.
DOORBELL_OFFSET = 0
POSTERIORS_LINES = PAGE
ERROR_SIGNALS_LINES = PAGE + 256
RECORDS_OFFSET = 2 * PAGE
_POSITIONS = struct.Struct("=Q120xQ")  # tail and head of a ring, each on a line of its own
MIN_RING_SIZE = 16 * PAGE  # a failure report has to fit beside anything else
MAX_RING_SIZE = 1 << 44


@dataclass(frozen=True)
class Geometry:
    """The two rings' places in the shared-memory object, all in bytes.

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
                    f"a ring of {size} bytes cannot be: it takes a multiple of {PAGE} "
                    f"from {MIN_RING_SIZE} to {MAX_RING_SIZE} bytes [option-value]"
                )

    @classmethod
    def for_ring_size(cls, ring_size: int) -> Geometry:
        """Two rings of this size in bytes, rounded up to whole pages."""
        size = max(-(-ring_size // PAGE) * PAGE, MIN_RING_SIZE)
        return cls(size, size)

    @property
    def posteriors_offset(self) -> int:
        """Where the posteriors' records begin."""
        return RECORDS_OFFSET

    @property
    def error_signals_offset(self) -> int:
        """Where the error signals' records begin."""
        return RECORDS_OFFSET + self.posteriors_size

    @property
    def total_size(self) -> int:
        """The size of the whole object."""
        return RECORDS_OFFSET + self.posteriors_size + self.error_signals_size


class Memory:
    """A mapping of a shared-memory object.

    It is unmapped when the last of those who point into it is gone: this object, the doorbells and
    ring ends opened in it, the arrays over their records. So no array ever points to nothing.

    Args:
        descriptor: of the object; it may be closed afterwards.
        size: bytes to map; the object must have them.

    Raises:
        ResourceError: the object is smaller than `size`, or cannot be mapped.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        there = os.fstat(descriptor).st_size
        if there < size:
            raise ResourceError(
                f"the shared memory has {there} bytes where {size} are needed [shared-memory]"
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
        """Where it is mapped."""
        return int(ffi.cast("uintptr_t", lib.shmb_memory_at(self.pointer, 0, self.size)))

    def used(self, lines_offset: int, capacity: int) -> int:
        """Bytes of a ring that were sent and are not released, as its positions say now.

        Args:
            lines_offset: where the positions lie: POSTERIORS_LINES or ERROR_SIGNALS_LINES.
            capacity: of the ring. The peer may write any position: what cannot be is cut to 0 or to this.
        """
        lines = lib.shmb_memory_at(self.pointer, lines_offset, _POSITIONS.size)
        tail, head = _POSITIONS.unpack_from(ffi.buffer(lines, _POSITIONS.size))
        return int(min(max(tail - head, 0), capacity))
