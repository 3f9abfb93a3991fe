"""Shared memory without a name: created, unlinked, and reserved before anybody writes to it."""

from __future__ import annotations

import errno
import os

import posix_ipc

from ..errors import ResourceError

_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory; only asked for its free space


def create_object(size: int) -> int:
    """Create a shared-memory object of this size in bytes that only its descriptor reaches.

    The pages are reserved: writing to them cannot fail later (it would be SIGBUS).

    Returns:
        The descriptor, which is not inherited unless it is passed on.

    Raises:
        ResourceError: there is not enough shared memory, or no descriptor left.
    """
    try:
        shared = posix_ipc.SharedMemory(None, flags=posix_ipc.O_CREX, mode=0o600, size=size)
    except (OSError, posix_ipc.Error) as error:
        raise ResourceError(
            f"cannot create a shared-memory object of {size} bytes: {error} (see `ulimit -a`)"
        ) from error
    descriptor: int = shared.fd
    try:
        shared.unlink()
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise ResourceError(
                f"{size} bytes ({size / 1e6:.1f} MB) of shared memory are needed, "
                f"{_free()} are free in {_SHM}: "
                "lower the option ring_size or the number of instances, or enlarge it "
                "(docker run --shm-size=…, or mount -o remount,size=… /dev/shm)"
            ) from error
        raise ResourceError(f"cannot reserve {size} bytes of shared memory: {error}") from error
    return descriptor


def _free() -> str:
    try:
        status = os.statvfs(_SHM)
    except OSError as error:
        return f"an unknown number ({error})"
    return f"{status.f_bavail * status.f_frsize} bytes"
