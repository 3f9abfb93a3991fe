"""Imported by Sprint instead of sprint_entry: report to the doctor what Sprint's Python can import.

This module must work in a Python that has neither NumPy nor shmbridge's C part.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["init"]


def init(config: str, callback: Any = None, version_number: Any = None, **_: Any) -> None:
    """Write the report as JSON to the file descriptor in the config string, and end Sprint."""
    settings = dict(item.split(":", 1) for item in config.split(","))
    report = {
        "pid": os.getpid(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "prefix": sys.prefix,
        "path": sys.path,
        "callback_version": version_number,
        "sprint": _try(lambda: " ".join(str(callback("version")).split())),
        "numpy": _try(_numpy),
        "sprint_entry": _try(_sprint_entry),
    }
    os.write(int(settings["report_fd"]), json.dumps(report).encode("ascii"))
    sys.stdout.flush()
    raise SystemExit(0)


def _try(look_up: Any) -> dict[str, str]:
    try:
        return {"found": look_up()}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _numpy() -> str:
    import numpy

    return f"{numpy.__version__} in {os.path.dirname(numpy.__file__)}"


def _sprint_entry() -> str:
    import sprint_entry

    return str(sprint_entry.__file__)
