"""`shmbridge stats`: the pools of this user's processes, as they are now.

Each is asked each time it is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from .arguments import count, seconds

if TYPE_CHECKING:
    from .pools import Pool

__all__ = ["add_arguments", "run"]

_NO_POOL = 3  # the exit code where there is none


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
    from .pools import again, pools

    first = pools(options.pid)
    if not first:
        nobody = "no process of this user has a" if options.pid is None else f"process {options.pid} has no"
        print(
            f"{nobody} pool of shmbridge that answers here (it has to be of the same user and in the same "
            "network namespace, so on the same machine and in the same container)",
            file=sys.stderr,
        )
        return _NO_POOL
    if options.json:
        for found in again(first, options.pid, options.every):
            print(json.dumps({"pools": [_as_json(pool) for pool in found]}), flush=True)
        return 0
    from . import show

    live = sys.stdout.isatty() and not options.once
    interval = (options.every or 1.0) if live else options.every if not options.once else None
    with contextlib.suppress(KeyboardInterrupt):  # the way to leave it
        show.pools(again(first, options.pid, interval), live=live)
    return 0


def _as_json(pool: Pool) -> dict[str, object]:
    return {"pid": pool.pid, "executable": pool.executable, **dataclasses.asdict(pool.statistics)}
