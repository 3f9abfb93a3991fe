"""The end of a child process: notice it, collect its exit status, and end its process group."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import threading
from typing import Optional

from ..descriptors import above_standard, pipe
from ..errors import ResourceError

_P_PIDFD = 3  # os.P_PIDFD, which a Python that was built with older headers lacks


@dataclasses.dataclass(frozen=True)
class ExitStatus:
    """How a process ended. With neither, its status is unknown.

    Attributes:
        exit_code: if it exited.
        signal_name: if a signal ended it.
    """

    exit_code: Optional[int] = None
    signal_name: Optional[str] = None

    def __str__(self) -> str:
        if self.exit_code is not None:
            return f"exited with code {self.exit_code}"
        if self.signal_name is not None:
            return f"was ended by {self.signal_name}"
        return (
            "ended, and other code of this process took its exit status: SIGCHLD is ignored, or a thread or "
            "signal handler waits for any child (os.wait, waitpid(-1))"
        )


UNKNOWN = ExitStatus()


class Ending:
    """The end of a child process, which leads a process group of its own.

    Args:
        pid: of the process. It may have ended, and other code may have waited for it.

    Raises:
        ResourceError: no descriptor or thread is left.

    Attributes:
        descriptor: is readable, or at its end, once the process has ended. The owner closes
            it after `collect`.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._has_pidfd = False
        try:
            pidfd = open_pidfd(pid)
        except ProcessLookupError:  # it has ended, and other code has waited for it
            self.descriptor, write_end = pipe()
            os.close(write_end)
            return
        self._has_pidfd = pidfd is not None
        self.descriptor = self._start_waiting() if pidfd is None else pidfd

    def collect(self) -> ExitStatus:
        """Return how the process, which has ended, did so; kill what is left of its process group."""
        # In this order: the number of the group is not reused before the process was waited for.
        status = self._wait(os.WNOWAIT)
        signal_group(self._pid, signal.SIGKILL)
        self._wait(0)
        return status

    def _wait(self, flags: int) -> ExitStatus:
        try:
            ended = self._waitid(os.WEXITED | flags)
        except ChildProcessError:
            return UNKNOWN
        if ended is None:
            return UNKNOWN
        if ended.si_code == os.CLD_EXITED:
            return ExitStatus(exit_code=ended.si_status)
        return ExitStatus(signal_name=_signal_name(ended.si_status))

    def _waitid(self, flags: int) -> Optional[os.waitid_result]:
        if self._has_pidfd:
            try:
                return os.waitid(_P_PIDFD, self.descriptor, flags)
            except OSError as error:
                if error.errno != errno.EINVAL:  # Linux 5.3
                    raise
        # If other code has waited for the process, its number may be that of another one, which runs.
        return os.waitid(os.P_PID, self._pid, flags | os.WNOHANG)

    def _start_waiting(self) -> int:
        """Return a descriptor that a thread brings to its end once the process has ended."""
        read_end, write_end = pipe()

        def wait() -> None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            os.close(write_end)

        threading.Thread(target=wait, name="shmbridge exit", daemon=True).start()
        return read_end


def signal_group(pid: int, number: int) -> None:
    """Send a signal to what is left of the process group that this process leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def signal_member(leader: int, pid: object, number: int) -> None:
    """Send a signal to one member of a process group; if `pid` is not a member, to the whole group.

    Args:
        leader: of the group.
        number: of the signal.
        pid: as the process has sent it. It may be of another namespace, or any value.
    """
    try:
        is_member = isinstance(pid, int) and pid > 0 and os.getpgid(pid) == leader
    except (OSError, OverflowError):
        is_member = False
    if isinstance(pid, int) and is_member:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    else:
        signal_group(leader, number)


def kill_and_wait(pid: int) -> None:
    """Kill a child process and its group, and wait for its end."""
    signal_group(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def open_pidfd(pid: int) -> Optional[int]:
    """Return a descriptor that is readable once the process has ended; None before Linux 5.3.

    Raises:
        ProcessLookupError: the process does not exist.
        ResourceError: no descriptor is left.
    """
    try:
        return above_standard(os.pidfd_open(pid))
    except ProcessLookupError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise ResourceError(
            f"cannot open a descriptor for process {pid}: {error.strerror} (see `ulimit -n`)"
            " [descriptors-processes]"
        ) from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
