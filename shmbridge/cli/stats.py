"""`shmbridge stats`: the pools of this user's processes, as they are now.

A pool listens at an abstract unix socket (shmbridge/parent/live.py). It is asked each time it is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from shmbridge.errors import ProtocolError

from .arguments import count, seconds

if TYPE_CHECKING:
    from shmbridge.parent import PoolStatistics

__all__ = ["Pool", "add_arguments", "ask", "names", "run"]

_NO_POOL = 3  # the exit code where there is none
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `shmbridge stats` takes."""
    parser.add_argument("pid", type=count, nargs="?", help="of the process; default: all of this user")
    parser.add_argument(
        "--once", action="store_true", help="show it once, as is done where the output is no terminal"
    )
    parser.add_argument(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help="how often to ask; with --json: a line each time; default: 1, and once with --json",
    )


def run(options: argparse.Namespace) -> int:
    """Show them until there are none any more, or Ctrl-C. Returns 3 where there are none at first."""
    first = pools(options.pid)
    if not first:
        who = "no process of this user" if options.pid is None else f"process {options.pid}"
        print(
            f"{who} has a pool of shmbridge that answers here (it has to be of the same user and in the same "
            "network namespace, so on the same machine and in the same container)",
            file=sys.stderr,
        )
        return _NO_POOL
    if options.json:
        for found in _again(first, options.pid, options.every):
            print(json.dumps({"pools": [_as_json(pool) for pool in found]}), flush=True)
        return 0
    from . import show

    again = sys.stdout.isatty() and not options.once
    interval = (options.every or 1.0) if again else options.every if not options.once else None
    with contextlib.suppress(KeyboardInterrupt):  # the way to leave it
        show.pools(_again(first, options.pid, interval), live=again)
    return 0


def pools(pid: Optional[int]) -> list[Pool]:
    """The pools of the process, or of all processes of this user."""
    found = []
    for name in names(pid):
        # It may have been closed meanwhile, or be another user's.
        with contextlib.suppress(OSError, ProtocolError):
            found.append(ask(name))
    return found


def names(pid: Optional[int] = None) -> list[str]:
    """The names of the pools' sockets, of all users, as the kernel lists them."""
    from shmbridge.parent.live import NAME_PREFIX

    prefix = f"@{NAME_PREFIX}{'' if pid is None else f'{pid}/'}"
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
    from shmbridge.parent import live

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(f"\0{name}")
        # Anybody may take a name like this, and tell what they want.
        pid, uid = live.peer_credentials(connection)
        if uid != os.geteuid() or name.split("/")[1] != str(pid):
            raise PermissionError(f"{name} is the socket of process {pid} of user {uid}")
        data = bytearray()
        deadline = time.monotonic() + _TIMEOUT
        while part := connection.recv(1 << 16):
            data += part
            if len(data) > _MOST or time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} does not come to an end with its answer")
    try:
        executable, statistics = live.decode(bytes(data))
    except ValueError as error:
        raise ProtocolError(
            f"the answer of process {pid} cannot be read (another version of shmbridge?): {error}"
        ) from None
    return Pool(name, pid, executable, statistics)


def _again(first: list[Pool], pid: Optional[int], interval: Optional[float]) -> Iterator[list[Pool]]:
    """What was found, and, with an interval, what is found each time until nothing is."""
    yield first
    while interval is not None:
        time.sleep(interval)
        found = pools(pid)
        if not found:
            return
        yield found


def _as_json(pool: Pool) -> dict[str, object]:
    return {"pid": pool.pid, "executable": pool.executable, **dataclasses.asdict(pool.statistics)}
