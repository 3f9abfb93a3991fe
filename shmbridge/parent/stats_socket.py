"""A pool's statistics for other processes of the same user: a socket that answers when it is asked.

The socket is an abstract one, so there is no file; its name is in the list of the kernel's, /proc/net/unix.
Whoever connects gets one JSON object, and the connection is closed.
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
from collections.abc import Callable, Iterator
from typing import Any

from .statistics import ChildStatistics, PoolStatistics
from .watcher import Watcher

__all__ = ["NAME_PREFIX", "decode", "peer_credentials", "serve_stats"]

_log = logging.getLogger("shmbridge")

NAME_PREFIX = "shmbridge-stats/"
"""An abstract name is this, the pid, a slash, and something that nobody can know beforehand."""

_FORMAT = 2
"""Of the JSON object; a field more is no other format."""

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def serve_stats(watcher: Watcher, executable: str, stats: Callable[[], PoolStatistics]) -> None:
    """Answer whoever of the same user asks, from the watcher's thread, until the watcher is closed.

    Where the system allows no such socket, there is none: the pool works without.

    Args:
        watcher: owns the socket from here on.
        executable: what the children run, without Sprint's options.
        stats: called for each who asks.
    """
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        _log.debug("no socket for `shmbridge stats`: %s", error)
        return
    try:
        listener.bind(f"\0{NAME_PREFIX}{os.getpid()}/{secrets.token_hex(8)}")
        listener.listen()
    except OSError as error:
        listener.close()
        _log.debug("no socket for `shmbridge stats`: %s", error)
        return
    descriptor = listener.detach()

    def on_connect() -> bool:
        with _borrowed(descriptor) as borrowed:
            try:
                connection, _ = borrowed.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return True
        with connection:
            if peer_credentials(connection)[1] == os.geteuid():
                _answer(connection, executable, stats())
        return True

    watcher.watch(descriptor, on_connect)


def peer_credentials(connection: socket.socket) -> tuple[int, int]:
    """Pid and effective user id of the process at the other end, as the kernel saw them connect or listen."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def _answer(connection: socket.socket, executable: str, stats: PoolStatistics) -> None:
    report: dict[str, Any] = {
        "format": _FORMAT,
        "pid": os.getpid(),
        "executable": executable,
        **dataclasses.asdict(stats),
    }
    connection.setblocking(False)
    # What does not fit into the socket's buffer is cut off: this thread waits for nobody.
    with contextlib.suppress(OSError):
        connection.send(json.dumps(report).encode("ascii"))


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """The socket of a descriptor that belongs to the watcher."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def decode(data: bytes) -> tuple[str, PoolStatistics]:
    """Executable and statistics that a pool has answered.

    Raises:
        ValueError: it is none, or one of another version of shmbridge.
    """
    try:
        report = json.loads(data)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(report, dict) or report.get("format") != _FORMAT:
        raise ValueError(f"not of format {_FORMAT} [stats-connection]")
    children = report.get("children")
    if not isinstance(children, list):
        raise ValueError("it has no list of children [stats-connection]")
    fields = _pick(PoolStatistics, {**report, "children": ()})
    fields["children"] = tuple(ChildStatistics(**_pick(ChildStatistics, item)) for item in children)
    return str(report.get("executable")), PoolStatistics(**fields)


def _pick(kind: Any, given: Any) -> dict[str, Any]:
    """The fields of a dataclass out of what came, each of its type."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r:.80} is no object [stats-connection]")
    picked = {}
    for field in dataclasses.fields(kind):
        value = given.get(field.name)
        if not isinstance(value, _TYPES.get(str(field.type), (tuple,))) or isinstance(value, bool):
            raise ValueError(f"{field.name} is {value!r:.80}, not of type {field.type} [stats-connection]")
        picked[field.name] = value
    return picked
