"""The shared memory that both processes map, and the offsets of the rings in it."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Any, Optional

from ._native import ffi, lib
from .available_memory import require_memory
from .descriptors import above_standard
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


_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory; no path in it is ever opened
# The errors of kernels and sandboxes without memfd_create.
_NO_MEMFD = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL)


def require_shared_memory(size: int, children: int) -> None:
    """Check the sum before the first object is reserved: the machine may reserve more than it has.

    Args:
        size: of the object of each child, in bytes.
        children: their number.

    Raises:
        ResourceError: not all objects fit.
    """
    total, purpose = size * children, f" for {children} children"
    require_memory(total, purpose)
    memfd = lib.shmb_memory_create()
    if memfd >= 0:
        os.close(memfd)
    elif ffi.errno in _NO_MEMFD:
        free = _free()
        if free is not None and free < total:
            raise _no_room(total, purpose)


def create_shared_memory(size: int) -> int:
    """Create a shared-memory object of `size` bytes without a name, reserve its pages, and fix its size.

    A write to a reserved page cannot fail later with SIGBUS. The kernel refuses to change the size later, in
    this process and in others.

    Returns:
        The descriptor; a child inherits it only if it is passed on.

    Raises:
        ResourceError: shared memory or descriptors ran out.
    """
    require_memory(size)
    try:
        descriptor = _open_unnamed()
    except Exception as error:  # posix_ipc raises errors of its own
        raise ResourceError(
            f"cannot create a shared-memory object of {size} bytes: {error} (see `ulimit -a`) [shared-memory]"
        ) from error
    try:
        os.posix_fallocate(descriptor, 0, size)
    except BaseException as error:  # such as Ctrl-C: this takes long for large objects
        os.close(descriptor)
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _no_room(size) from error
        raise ResourceError(
            f"cannot reserve {size} bytes of shared memory: {error} (see `ulimit -a`) [shared-memory]"
        ) from error
    lib.shmb_memory_seal(descriptor)  # fails for an object that is not a memfd: its size stays changeable
    return descriptor


def _open_unnamed() -> int:
    """Return the descriptor of an empty shared-memory object without a name, for this user only."""
    memfd: int = lib.shmb_memory_create()
    if memfd >= 0:
        return above_standard(memfd)
    if ffi.errno not in _NO_MEMFD:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    import posix_ipc  # not on top: Sprint's Python imports this module, and never comes here

    # The object briefly has a name. A trainer that is killed in that moment leaves an empty file behind.
    shared = posix_ipc.SharedMemory(None, flags=posix_ipc.O_CREX, mode=0o600)
    descriptor: int = shared.fd
    try:
        shared.unlink()
    except BaseException:
        os.close(descriptor)
        raise
    return above_standard(descriptor)


def _no_room(size: int, purpose: str = "") -> ResourceError:
    free = _free()
    return ResourceError(
        f"{size} bytes ({size / 1e6:.1f} MB) of shared memory are needed{purpose}, "
        f"{'an unknown number of' if free is None else free} bytes are free in {_SHM}: "
        "lower ring_size or num_instances, or enlarge it "
        "(docker run --shm-size=…, or mount -o remount,size=… /dev/shm) [shared-memory]"
    )


def _free() -> Optional[int]:
    try:
        status = os.statvfs(_SHM)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
