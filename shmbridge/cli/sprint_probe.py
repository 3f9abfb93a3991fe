"""What Sprint imports in sprint_entry's place when the doctor asks it what it sees.

It has to work in a Python that has neither numpy nor shmbridge's C part: that is what it looks for.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["init"]


def init(config: str, callback: Any = None, version_number: Any = None, **_: Any) -> None:
    """Tell what there is, as JSON, to the descriptor that the config string names; then end Sprint."""
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


def _try(look: Any) -> dict[str, str]:
    try:
        return {"found": look()}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _numpy() -> str:
    import numpy

    return f"{numpy.__version__} in {os.path.dirname(numpy.__file__)}"


def _sprint_entry() -> str:
    import sprint_entry

    return str(sprint_entry.__file__)
