"""The shared memory that both processes map, and where in it the rings lie."""

from __future__ import annotations

import errno
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


_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory; no path in it is ever opened
# O_EXCL: no process can link the file to a name later.
_UNNAMED = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
# The errors of filesystems and sandboxes that do not support O_TMPFILE.
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def create_shared_memory(size: int) -> int:
    """Create a shared-memory object of `size` bytes without a name, and reserve its pages.

    A write to a reserved page cannot fail later with SIGBUS.

    Returns:
        The descriptor; a child inherits it only if it is passed on.

    Raises:
        ResourceError: shared memory or descriptors ran out.
    """
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
            raise ResourceError(
                f"{size} bytes ({size / 1e6:.1f} MB) of shared memory are needed, "
                f"{_free()} are free in {_SHM}: "
                "lower ring_size or num_instances, or enlarge it "
                "(docker run --shm-size=…, or mount -o remount,size=… /dev/shm) [shared-memory]"
            ) from error
        raise ResourceError(
            f"cannot reserve {size} bytes of shared memory: {error} [shared-memory]"
        ) from error
    return descriptor


def _open_unnamed() -> int:
    """Return the descriptor of an empty shared-memory object without a name, for this user only."""
    try:
        return os.open(_SHM, _UNNAMED, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    import posix_ipc  # not on top: Sprint's Python imports this module, and never comes here

    # The object briefly has a name. A trainer that is killed in that moment leaves an empty file behind.
    shared = posix_ipc.SharedMemory(None, flags=posix_ipc.O_CREX, mode=0o600)
    descriptor: int = shared.fd
    try:
        shared.unlink()
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _free() -> str:
    try:
        status = os.statvfs(_SHM)
    except OSError as error:
        return f"an unknown number ({error})"
    return f"{status.f_bavail * status.f_frsize} bytes"
