"""Imports of the trainers in tests/sprints: the options of their pool, and a function for their reports."""

from __future__ import annotations

import json
import sys
from typing import Any

SETTINGS: dict[str, Any] = json.loads(sys.argv[1])  # of SprintEnv.trainer_file
OPTIONS: dict[str, Any] = SETTINGS["options"]


def say(what: object) -> None:
    """Report something that SprintEnv.said returns to the test."""
    print(json.dumps(what), flush=True)
