"""Imported by Sprint instead of sprint_entry: report to the doctor what Sprint and its Python have.

This module must work in a Python that has neither NumPy nor shmbridge's C part.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["SprintNnPythonLayer", "init"]

_COMMANDS = (
    "version",
    "version_number",
    "help",
    "calculate_criterion",
    "get_ctc_alignment",
    "export_allophone_state_fsa_by_orthography",
    "export_allophone_state_fsa_by_segment_name",
    "get_orthography_by_segment_name",
    "get_alignment_from_cache",
    "analyze_alignment_from_cache",
)


def init(
    config: str, sprint_unit: str = "", callback: Any = None, version_number: Any = None, **_: Any
) -> None:
    """Write the report as JSON to the file descriptor in the config string, and end Sprint."""
    settings = dict(item.split(":", 1) for item in config.split(","))
    report: dict[str, Any] = {
        "pid": os.getpid(),
        "unit": sprint_unit,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "prefix": sys.prefix,
        "path": sys.path,
        "callback_version": version_number,
        "sprint": _try(lambda: " ".join(str(callback("version")).split())),
        "numpy": _try(_numpy),
        "sprint_entry": _try(_sprint_entry),
    }
    _write(int(settings["report_fd"]), report)
    # Last, because a command without its arguments could end Sprint.
    report["commands"] = [command for command in _COMMANDS if _knows(callback, command)]
    _write(int(settings["report_fd"]), report)
    sys.stdout.flush()
    raise SystemExit(0)


class SprintNnPythonLayer:
    """A layer without parameters: lattice-processor builds its network before it calls init.

    Args:
        config: the config string.
    """

    def __init__(self, config: str) -> None:
        del config

    def setInputDimension(self, stream: int, size: int) -> None:  # noqa: N802
        """Ignore the dimension."""

    def setOutputDimension(self, size: int) -> None:  # noqa: N802
        """Ignore the dimension."""

    def initializeNetworkParameters(self) -> None:  # noqa: N802
        """Do nothing."""

    def isTrainable(self) -> bool:  # noqa: N802
        """Return True, as the bridge's layer does."""
        return True

    def getNumberOfFreeParameters(self) -> int:  # noqa: N802
        """Return 0."""
        return 0


def _write(descriptor: int, report: dict[str, Any]) -> None:
    # The second report is longer than the first one, and replaces it.
    os.pwrite(descriptor, json.dumps(report).encode("ascii"), 0)


def _knows(callback: Any, command: str) -> bool:
    """Return whether the callback knows a command.

    A command without its arguments raises TypeError, but an unknown one raises ValueError.
    """
    try:
        callback(command)
    except ValueError:
        return False
    except Exception:
        return True
    return True


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
