"""A Sprint that has ended, and the calls that it made to a module that uses tests/recorder.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Finished", "read_calls"]

Call = tuple[str, dict[str, Any]]


@dataclass
class Finished:
    """The exit code, the output, and the recorded calls."""

    code: int
    out: str
    err: str
    calls: list[Call]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def arguments(self, name: str) -> list[dict[str, Any]]:
        return [arguments for call, arguments in self.calls if call == name]


def read_calls(path: Path) -> list[Call]:
    """Return the calls that the recorder wrote to a file; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [tuple(json.loads(line)) for line in lines]
