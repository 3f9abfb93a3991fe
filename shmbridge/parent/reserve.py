"""Shared memory without a name, reserved before anybody writes to it."""

from __future__ import annotations

import errno
import os

import posix_ipc

from ..errors import ResourceError

_SHM = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory; no path in it is ever opened
# O_EXCL: nobody can give it a name later on.
_UNNAMED = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
# What a filesystem, or a sandbox that plays the kernel, answers that knows no files without a name.
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


def create_object(size: int) -> int:
    """Create a shared-memory object of this size in bytes that only its descriptor reaches.

    The pages are reserved: writing to them cannot fail later (it would be SIGBUS).

    Returns:
        The descriptor, which is not inherited unless it is passed on.

    Raises:
        ResourceError: there is not enough shared memory, or no descriptor left.
    """
    try:
        descriptor = _open_unnamed()
    except (OSError, posix_ipc.Error) as error:
        raise ResourceError(
            f"cannot create a shared-memory object of {size} bytes: {error} (see `ulimit -a`) [shared-memory]"
        ) from error
    try:
        os.posix_fallocate(descriptor, 0, size)
    except BaseException as error:  # such as Ctrl-C: this takes its time for much memory
        os.close(descriptor)
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise ResourceError(
                f"{size} bytes ({size / 1e6:.1f} MB) of shared memory are needed, "
                f"{_free()} are free in {_SHM}: "
                "lower the option ring_size or the number of instances, or enlarge it "
                "(docker run --shm-size=…, or mount -o remount,size=… /dev/shm) [shared-memory]"
            ) from error
        raise ResourceError(
            f"cannot reserve {size} bytes of shared memory: {error} [shared-memory]"
        ) from error
    return descriptor


def _open_unnamed() -> int:
    """The descriptor of a shared-memory object without bytes and without a name, for this user alone.

    Raises:
        OSError, posix_ipc.Error: as the system says.
    """
    try:
        return os.open(_SHM, _UNNAMED, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    # A name for a moment: who is killed just there leaves it behind, empty.
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
