"""`shmbridge doctor`: find problems before a training does."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
from collections.abc import Iterator

from .arguments import count, seconds
from .checks import FAILED, Check

__all__ = ["add_arguments", "run"]

_FOUND = 3  # the exit code if a check failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `shmbridge doctor`."""
    parser.add_argument(
        "--sprint",
        nargs="+",
        default=[],
        metavar="PATH",
        help="executables to check: RASR's nn-trainer or lattice-processor",
    )
    parser.add_argument(
        "--sprint-config",
        default="",
        metavar="OPTIONS",
        help="more options for these executables: --sprint-config='--*.name=value …'",
    )
    for name, kind, default, metavar, meaning in (
        ("--children", count, 2, "N", "number of children to plan for"),
        ("--ring-size", count, 128 << 20, "BYTES", "the option ring_size to plan for"),
        ("--timeout", seconds, 60.0, "SECONDS", "how long an executable may take to start"),
    ):
        parser.add_argument(
            name, type=kind, default=default, metavar=metavar, help=f"{meaning} (default: %(default)s)"
        )


def run(options: argparse.Namespace) -> int:
    """Run and print all checks. Return 3 if one of them failed, else 0."""
    if not options.verbose:
        # Sprint's warnings about the probe's own files would hide the checks, which quote its output.
        logging.getLogger("shmbridge").setLevel(logging.CRITICAL)
    checks = _checks(options)
    if options.json:
        done = list(checks)
    elif importlib.util.find_spec("rich") is None:
        from .plain import doctor_checks

        done = doctor_checks(checks)
    else:
        from .show import doctor_checks

        done = doctor_checks(checks)
    ok = all(check.status != FAILED for check in done)
    if options.json:
        print(json.dumps({"ok": ok, "checks": [dataclasses.asdict(check) for check in done]}))
    return 0 if ok else _FOUND


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    # Imported here: `shmbridge --help` must work even if NumPy or the C part is broken.
    from .machine import check_machine

    native = True
    for check in check_machine(options.children, options.ring_size):
        yield check
        native = native and not (check.name == "C part" and check.status == FAILED)
    if not native:
        return
    from .sprint import check_sprint

    for path in options.sprint:
        yield from check_sprint(path, options.sprint_config, options.timeout)
