"""`shmbridge stats`: show the running pools of this user."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from .arguments import count, seconds

if TYPE_CHECKING:
    from shmbridge.parent.stats_socket import Pool

__all__ = ["add_arguments", "run"]

_NO_POOL = 3  # the exit code if no pool is running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `shmbridge stats`."""
    parser.add_argument("pid", type=count, nargs="?", help="process id of a trainer (default: all)")
    parser.add_argument(
        "--once", action="store_true", help="show the pools once (default if not on a terminal)"
    )
    parser.add_argument(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help="refresh interval (default: 1 on a terminal); with --json, print one line each time",
    )


def run(options: argparse.Namespace) -> int:
    """Show the pools until none is running or Ctrl-C. Return 3 if none is running at first."""
    from shmbridge.parent.stats_socket import find_pools

    first = find_pools(options.pid)
    if not first:
        owner = "this user" if options.pid is None else f"process {options.pid}"
        print(
            f"{owner} has no pool that answers; run this command as the trainer's user, on its machine and "
            "in its container (network namespace)",
            file=sys.stderr,
        )
        return _NO_POOL
    if options.json:
        for pools in _poll(first, options.pid, options.every):
            report = [
                {"pid": pool.pid, "executable": pool.executable, **dataclasses.asdict(pool.statistics)}
                for pool in pools
            ]
            print(json.dumps({"pools": report}), flush=True)
        return 0
    if importlib.util.find_spec("rich") is None:
        from .plain import pool_tables
    else:
        from .show import pool_tables

    live = sys.stdout.isatty() and not options.once
    interval = None if options.once else options.every or (1.0 if live else None)
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end this command
        pool_tables(_poll(first, options.pid, interval), live=live)
    return 0


def _poll(first: list[Pool], pid: Optional[int], interval: Optional[float]) -> Iterator[list[Pool]]:
    """Yield `first`; then, given an interval in seconds, the pools after each until none is running."""
    from shmbridge.parent.stats_socket import find_pools

    pools = first
    while pools:
        yield pools
        if interval is None:
            return
        time.sleep(interval)
        pools = find_pools(pid)
