"""A pool's statistics for other processes of the same user: the socket that answers, and its client.

The socket lies in a file that only its user may write to, and that has no name: clients reach it through
/proc/PID/fd, which the kernel opens to the same user only. It receives datagrams, so that an answer needs no
further descriptor, and the pool sends one JSON object for each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import secrets
import socket
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, Optional

from ..descriptors import above_standard
from ..errors import ProtocolError
from .statistics import ChildStatistics, PoolStatistics
from .watcher import Watcher

__all__ = ["Pool", "Socket", "find_pools", "list_sockets", "open_socket", "query", "serve_stats"]

_log = logging.getLogger("shmbridge")

_FORMAT = 2  # of the JSON object; a new field does not change it
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
# What the descriptor of the file refers to: the former name has the pid, and random digits.
_LINK = re.compile(r"/(shmbridge-stats-([0-9]+)-[0-9a-f]+) \(deleted\)")
_TIMEOUT = 5.0  # seconds for an answer
_MAX_ANSWER = 1 << 20  # bytes; the kernel's default limit is lower


@dataclasses.dataclass(frozen=True)
class Socket:
    """The socket of a pool.

    Attributes:
        name: the name that its file had.
        pid: of its process.
        path: where to connect to.
    """

    name: str
    pid: int
    path: str


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
        listener, file = open_socket()
    except OSError as error:
        _log.debug("no socket for `shmbridge stats`: %s", error)
        return

    def answer() -> bool:
        borrowed = socket.socket(fileno=listener)
        try:
            borrowed.setblocking(False)  # whatever socket.setdefaulttimeout says
            # An answer that exceeds the client's buffer is lost: this thread never waits for a client.
            with contextlib.suppress(OSError):
                _, client = borrowed.recvfrom(1)
                if client is None:  # it has no address
                    return True
                report = {"format": _FORMAT, "executable": executable, **dataclasses.asdict(stats())}
                borrowed.sendto(json.dumps(report).encode("ascii"), client)
        finally:
            borrowed.detach()  # the descriptor belongs to the watcher
        return True

    weakref.finalize(answer, os.close, file).atexit = False  # the watcher drops it with the descriptor
    watcher.watch(listener, answer)


def open_socket() -> tuple[int, int]:
    """Return the descriptors of a socket and of its file, which has no name and belongs to this user only.

    Raises:
        OSError: neither the folder for temporary files nor /dev/shm allows it.
    """
    try:
        return _open_socket_in(tempfile.gettempdir())
    except OSError:
        return _open_socket_in("/dev/shm")  # noqa: S108 - the name is random, and removed at once


def _open_socket_in(folder: str) -> tuple[int, int]:
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as always:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # of the file, from its first moment
        folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        always.callback(os.close, folder_fd)
        # An address has at most 107 bytes, and the path of the folder may have more.
        path = f"/proc/self/fd/{folder_fd}/shmbridge-stats-{os.getpid()}-{secrets.token_hex(8)}"
        try:
            listener.bind(path)
            file = above_standard(os.open(path, os.O_PATH))
            undo.callback(os.close, file)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
        descriptor = above_standard(listener.detach())
        undo.pop_all()
        return descriptor, file


def find_pools(pid: Optional[int]) -> list[Pool]:
    """Query the pools of one process, or of all processes of this user."""
    found = []
    for each in list_sockets(pid):
        # The pool may have been closed in the meantime.
        with contextlib.suppress(OSError, ProtocolError):
            found.append(query(each))
    return found


def list_sockets(pid: Optional[int] = None) -> list[Socket]:
    """Return the sockets of one process, or of all processes of this user."""
    found: dict[str, Socket] = {}
    for process in os.listdir("/proc") if pid is None else [str(pid)]:
        # The process may have ended; that of another user has descriptors that nobody else may list.
        with contextlib.suppress(OSError):
            if not process.isdecimal() or os.stat(f"/proc/{process}").st_uid != os.geteuid():
                continue
            for descriptor in os.listdir(f"/proc/{process}/fd"):
                path = f"/proc/{process}/fd/{descriptor}"
                with contextlib.suppress(FileNotFoundError):  # it was closed
                    match = _LINK.search(os.readlink(path))
                    if match and match[2] == process:  # not a fork's copy
                        found[match[1]] = Socket(match[1], int(process), path)
    return [found[name] for name in sorted(found)]


def query(pool: Socket) -> Pool:
    """Query the pool that listens at a socket.

    Raises:
        OSError: the socket is closed or belongs to another user, or no answer comes in time.
        ProtocolError: the answer is invalid, or from another version of shmbridge.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(pool.path)  # first of all: now no other process can send
        connection.bind("")
        connection.send(b"?")
        data = connection.recv(_MAX_ANSWER)
    try:
        return _decode(pool, data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            f"the answer of process {pool.pid} is invalid; it may run another version of shmbridge: {error}"
            " [stats-connection]"
        ) from None


def _decode(pool: Socket, data: bytes) -> Pool:
    report = json.loads(data)
    if not isinstance(report, dict) or report.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT} [stats-connection]")
    children = report.get("children")
    if not isinstance(children, list):
        raise ValueError("it has no list of children [stats-connection]")
    fields = _pick(PoolStatistics, {**report, "children": ()})
    fields["children"] = tuple(ChildStatistics(**_pick(ChildStatistics, child)) for child in children)
    return Pool(pool.name, pool.pid, str(report.get("executable")), PoolStatistics(**fields))


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
