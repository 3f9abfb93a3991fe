"""Find and query the pools of this user's processes, by their sockets (shmbridge/parent/live.py)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from shmbridge.errors import ProtocolError
from shmbridge.parent import PoolStatistics
from shmbridge.parent.live import NAME_PREFIX, decode, peer_credentials

__all__ = ["Pool", "find_pools", "list_sockets", "poll", "query"]

_SOCKETS = Path("/proc/net/unix")
_TIMEOUT = 5.0  # seconds for an answer
_MAX_ANSWER = 16 << 20  # bytes


@dataclass(frozen=True)
class Pool:
    """A pool's answer.

    Attributes:
        name: of its socket.
        pid: of its process.
        executable: the command of its children, without Sprint's options.
        statistics: its statistics.
    """

    name: str
    pid: int
    executable: str
    statistics: PoolStatistics


def find_pools(pid: Optional[int]) -> list[Pool]:
    """Query the pools of one process, or of all processes of this user."""
    found = []
    for name in list_sockets(pid):
        # The pool may have been closed in the meantime, or belong to another user.
        with contextlib.suppress(OSError, ProtocolError):
            found.append(query(name))
    return found


def poll(first: list[Pool], pid: Optional[int], interval: Optional[float]) -> Iterator[list[Pool]]:
    """Yield `first`; then, given an interval in seconds, the pools after each until none is running."""
    yield first
    while interval is not None:
        time.sleep(interval)
        found = find_pools(pid)
        if not found:
            return
        yield found


def list_sockets(pid: Optional[int] = None) -> list[str]:
    """Return the names of the pools' sockets, of all users, from the kernel's list."""
    prefix = f"@{NAME_PREFIX}{'' if pid is None else f'{pid}/'}"
    names = (line.split(" ")[-1] for line in _SOCKETS.read_text(errors="replace").splitlines()[1:])
    return sorted({name[1:] for name in names if name.startswith(prefix)})


def query(name: str) -> Pool:
    """Query the pool that listens at a socket.

    Raises:
        OSError: the socket is closed or belongs to another user or process, or no answer comes in time.
        ProtocolError: the answer is invalid, or from another version of shmbridge.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(f"\0{name}")
        # Any process may bind an abstract name. Only the credentials prove whose socket it is.
        pid, uid = peer_credentials(connection)
        if uid != os.geteuid() or name.split("/")[1] != str(pid):
            raise PermissionError(
                f"the owner of socket {name} is process {pid} of user {uid}; it must be the process in its "
                "name, of this user [stats-connection]"
            )
        data = bytearray()
        deadline = time.monotonic() + _TIMEOUT
        while part := connection.recv(1 << 16):
            data += part
            if len(data) > _MAX_ANSWER or time.monotonic() > deadline:
                raise TimeoutError(
                    f"the answer of process {pid} is incomplete after {len(data)} bytes and up to "
                    f"{_TIMEOUT:g} s [stats-connection]"
                )
    try:
        executable, statistics = decode(bytes(data))
    except ValueError as error:
        raise ProtocolError(
            f"the answer of process {pid} is invalid; it may run another version of shmbridge: {error}"
            " [stats-connection]"
        ) from None
    return Pool(name, pid, executable, statistics)
