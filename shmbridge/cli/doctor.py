"""`shmbridge doctor`: what could go wrong, before it does."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator

from .arguments import count, seconds
from .checks import FAILED, Check

__all__ = ["add_arguments", "run"]

_FOUND = 3  # the exit code where a check has failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `shmbridge doctor` takes."""
    parser.add_argument(
        "--sprint",
        nargs="+",
        default=[],
        metavar="PATH",
        help="executables to try: nn-trainer of RASR, refsprint",
    )
    parser.add_argument(
        "--sprint-config",
        default="",
        metavar="WORDS",
        help="more options for those, as in the option sprint_config: --sprint-config='--*.name=value …'",
    )
    parser.add_argument(
        "--children",
        type=count,
        default=2,
        metavar="N",
        help="how many there are to be; default: %(default)s",
    )
    parser.add_argument(
        "--ring-size",
        type=count,
        default=128 << 20,
        metavar="BYTES",
        help="the option ring_size; default: %(default)s",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="for a Sprint to start; default: %(default)s",
    )


def run(options: argparse.Namespace) -> int:
    """Look at everything, and tell. Returns 3 where a check has failed, else 0."""
    checks = _checks(options)
    if options.json:
        done = list(checks)
        ok = not _failed(done)
        print(json.dumps({"ok": ok, "checks": [dataclasses.asdict(check) for check in done]}))
    else:
        from . import show

        done = show.doctor_checks(checks)
    return _FOUND if _failed(done) else 0


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    # What they import may be what is broken: they are imported when the command runs.
    from .machine import check_machine
    from .sprint import check_sprint

    native = True
    for check in check_machine(options.children, options.ring_size):
        yield check
        native = native and not (check.name == "C part" and check.status == FAILED)
    for path in options.sprint if native else ():
        yield from check_sprint(path, options.sprint_config, options.timeout)


def _failed(checks: list[Check]) -> bool:
    return any(check.status == FAILED for check in checks)
