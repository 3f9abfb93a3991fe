"""The output of `shmbridge doctor` and `shmbridge stats` without the package rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from shmbridge.units import format_bytes

from .checks import FAILED, WARNING, Check

if TYPE_CHECKING:
    from shmbridge.parent.stats_socket import Pool

__all__ = ["doctor_checks", "pool_tables"]


def doctor_checks(checks: Iterable[Check]) -> list[Check]:
    """Print each check when it is done, and return all of them."""
    done = []
    for check in checks:
        done.append(check)
        print(f"{check.status:>8}  {check.name}")
        for text in (check.found, check.advice and f"→ {check.advice}"):
            for line in text.splitlines():
                print(f"{'':10}{line}", flush=True)
    warnings, failed = (sum(check.status == status for check in done) for status in (WARNING, FAILED))
    print(f"{len(done)} checks, warnings: {warnings}, failed: {failed}")
    return done


def pool_tables(states: Iterable[list[Pool]], *, live: bool) -> None:
    """Print the pools of each state, one after the other; `live` adds an empty line between states."""
    for number, pools in enumerate(states):
        if live and number:
            print()
        for pool in pools:
            print(f"process {pool.pid}: {pool.executable}")
            print(f"  {pool.statistics}")
            for child in pool.statistics.children:
                print(
                    f"  child {child.pid}: {child.state}, {child.answered} answered, {child.scored} scored, "
                    f"{child.in_flight} in flight, {child.restarts} restarts, ring to Sprint "
                    f"{format_bytes(child.posteriors_used)}, ring from Sprint "
                    f"{format_bytes(child.error_signals_used)}",
                    flush=True,
                )
