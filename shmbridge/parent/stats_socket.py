"""A pool's statistics for other processes of the same user: the socket that answers, and its client.

The socket is abstract: it has no file, and the kernel lists its name in /proc/net/unix. The pool sends each
client one JSON object and closes the connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from ..descriptors import above_standard
from ..errors import ProtocolError
from .statistics import ChildStatistics, PoolStatistics
from .watcher import Watcher

__all__ = ["NAME_PREFIX", "Pool", "find_pools", "list_sockets", "query", "serve_stats"]

_log = logging.getLogger("shmbridge")

NAME_PREFIX = "shmbridge-stats/"
"""The name of a socket is this, the pid, a slash, and random digits."""

_FORMAT = 2  # of the JSON object; a new field does not change it
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_SOCKETS = Path("/proc/net/unix")
_TIMEOUT = 5.0  # seconds for an answer
_MAX_ANSWER = 16 << 20  # bytes


@dataclasses.dataclass(frozen=True)
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


def serve_stats(watcher: Watcher, executable: str, stats: Callable[[], PoolStatistics]) -> None:
    """Answer clients of the same user, in the watcher's thread, until the watcher is closed.

    If the system allows no such socket, the pool works without it.

    Args:
        watcher: owns the socket from here on.
        executable: the command of the children, without Sprint's options.
        stats: is called for each client.
    """
    try:
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.setblocking(False)
            listener.bind(f"\0{NAME_PREFIX}{os.getpid()}/{secrets.token_hex(8)}")
            listener.listen()
            undo.pop_all()
        descriptor = above_standard(listener.detach())
    except OSError as error:
        _log.debug("no socket for `shmbridge stats`: %s", error)
        return

    def on_connect() -> bool:
        borrowed = socket.socket(fileno=descriptor)
        try:
            connection, _ = borrowed.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return True
        finally:
            borrowed.detach()  # the descriptor belongs to the watcher
        with connection:
            if _peer_credentials(connection)[1] == os.geteuid():
                report = {"format": _FORMAT, "executable": executable, **dataclasses.asdict(stats())}
                connection.setblocking(False)
                # An answer that exceeds the socket's buffer is cut off: this thread never waits for a client.
                with contextlib.suppress(OSError):
                    connection.send(json.dumps(report).encode("ascii"))
        return True

    watcher.watch(descriptor, on_connect)


def find_pools(pid: Optional[int]) -> list[Pool]:
    """Query the pools of one process, or of all processes of this user."""
    found = []
    for name in list_sockets(pid):
        # The pool may have been closed in the meantime, or belong to another user.
        with contextlib.suppress(OSError, ProtocolError):
            found.append(query(name))
    return found


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
        pid, uid = _peer_credentials(connection)
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
        return _decode(name, pid, bytes(data))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            f"the answer of process {pid} is invalid; it may run another version of shmbridge: {error}"
            " [stats-connection]"
        ) from None


def _peer_credentials(connection: socket.socket) -> tuple[int, int]:
    """Return pid and effective user id of the process that connected, or that listens."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def _decode(name: str, pid: int, data: bytes) -> Pool:
    report = json.loads(data)
    if not isinstance(report, dict) or report.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT} [stats-connection]")
    children = report.get("children")
    if not isinstance(children, list):
        raise ValueError("it has no list of children [stats-connection]")
    fields = _pick(PoolStatistics, {**report, "children": ()})
    fields["children"] = tuple(ChildStatistics(**_pick(ChildStatistics, child)) for child in children)
    return Pool(name, pid, str(report.get("executable")), PoolStatistics(**fields))


def _pick(kind: Any, given: Any) -> dict[str, Any]:
    """Return the fields of a dataclass from a JSON object, each of its type."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r:.80} is not an object [stats-connection]")
    picked = {}
    for field in dataclasses.fields(kind):
        value = given.get(field.name)
        if not isinstance(value, _TYPES.get(str(field.type), (tuple,))) or isinstance(value, bool):
            raise ValueError(f"{field.name} is {value!r:.80}, not of type {field.type} [stats-connection]")
        picked[field.name] = value
    return picked
