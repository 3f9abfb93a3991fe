"""Pools that run in this user's processes: found by their sockets, and asked.

A pool listens at an abstract unix socket (shmbridge/parent/stats_socket.py).
"""

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
from shmbridge.parent import PoolStatistics, stats_socket

__all__ = ["Pool", "again", "ask", "names", "pools"]

_SOCKETS = Path("/proc/net/unix")
_TIMEOUT = 5.0  # seconds for an answer
_MOST = 16 << 20  # bytes of an answer


@dataclass(frozen=True)
class Pool:
    """What a pool has answered.

    Attributes:
        name: of its socket.
        pid: of its process.
        executable: what its children run, without Sprint's options.
        statistics: its figures.
    """

    name: str
    pid: int
    executable: str
    statistics: PoolStatistics


def pools(pid: Optional[int]) -> list[Pool]:
    """The pools of the process, or of all processes of this user."""
    found = []
    for name in names(pid):
        # It may have been closed meanwhile, or be another user's.
        with contextlib.suppress(OSError, ProtocolError):
            found.append(ask(name))
    return found


def again(first: list[Pool], pid: Optional[int], interval: Optional[float]) -> Iterator[list[Pool]]:
    """What was found, and, with an interval, what is found each time until nothing is."""
    yield first
    while interval is not None:
        time.sleep(interval)
        found = pools(pid)
        if not found:
            return
        yield found


def names(pid: Optional[int] = None) -> list[str]:
    """The names of the pools' sockets, of all users, as the kernel lists them."""
    prefix = f"@{stats_socket.NAME_PREFIX}{'' if pid is None else f'{pid}/'}"
    found = set()
    for line in _SOCKETS.read_text(errors="replace").splitlines()[1:]:
        name = line.split(" ")[-1]
        if name.startswith(prefix):
            found.add(name[1:])
    return sorted(found)


def ask(name: str) -> Pool:
    """Ask the pool whose socket this is.

    Raises:
        OSError: nobody listens there, or somebody else's process does, or no answer comes in time.
        ProtocolError: the answer cannot be read: it is of another version of shmbridge.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(f"\0{name}")
        # Anybody may take a name like this, and tell what they want.
        pid, uid = stats_socket.peer_credentials(connection)
        if uid != os.geteuid() or name.split("/")[1] != str(pid):
            raise PermissionError(f"{name} is the socket of process {pid} of user {uid} [stats-connection]")
        data = bytearray()
        deadline = time.monotonic() + _TIMEOUT
        while part := connection.recv(1 << 16):
            data += part
            if len(data) > _MOST or time.monotonic() > deadline:
                raise TimeoutError(
                    f"process {pid} does not come to an end with its answer [stats-connection]"
                )
    try:
        executable, statistics = stats_socket.decode(bytes(data))
    except ValueError as error:
        raise ProtocolError(
            f"the answer of process {pid} cannot be read (another version of shmbridge?): {error}"
            " [stats-connection]"
        ) from None
    return Pool(name, pid, executable, statistics)
