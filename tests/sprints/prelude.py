"""The beginning of each scripted Sprint.

The Sprints of this folder import it. SprintEnv.scripted writes its text before the script of a test.
"""

from __future__ import annotations

import json
import os  # noqa: F401 - for the scripts, as threading
import sys
import threading  # noqa: F401
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

OPTIONS = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
CONFIG = OPTIONS["*.pymod-config"]
sys.path.insert(0, OPTIONS["*.pymod-path"])
import sprint_entry  # noqa: E402

SEGMENTS = ["c/s1", "c/s2", "c/s3"]
SEEN: dict[str, Any] = {"orthographies": []}  # for SprintEnv.seen(); see save_seen()


def setting(name: str) -> str:
    """Return a setting that the test has passed to SprintEnv.sprint_file."""
    return OPTIONS[f"*.test-{name}"]


def save_seen() -> None:
    """Write SEEN to a file, at the end of a Sprint of this folder. A scripted Sprint does so by itself."""
    with open(setting("seen"), "w") as file:
        json.dump(SEEN, file)


def callback(command: str, **arguments: Any) -> Any:
    """Answer as Sprint does: the loss is 1.5, and the error signal twice the posteriors."""
    if command == "version":
        return "<version>by hand</version>"
    if command == "get_orthography_by_segment_name":
        return "word "
    if command == "calculate_criterion":
        SEEN["orthographies"].append(arguments.get("orthography"))
        posteriors = arguments["posteriors"]
        return 1.5, np.asfortranarray(2 * posteriors)
    raise ValueError(command)


def init(**more: Any) -> Any:
    """Call sprint_entry.init as Sprint does, with other arguments if given."""
    given = {
        "name": "Sprint.PythonControl",
        "reference": object(),
        "config": CONFIG,
        "callback": callback,
        "sprint_unit": "NnTrainer.pythonControl",
        "version_number": 5,
    }
    return sprint_entry.init(**{**given, **more})


def segment_list() -> Iterator[str]:
    """Return the segments in the trainer's order."""
    return sprint_entry.getSegmentList(
        corpusName="c", segmentList=list(SEGMENTS), segmentsInfo=None, config=CONFIG
    )


def process(control: Any, name: str, **more: Any) -> None:
    """Pass a segment to the control as Sprint does."""
    given: dict[str, Any] = {
        "orthography": b"word ",
        "speaker_name": None,
        "features": None,
        "alignment": None,
        "soft_alignment": None,
    }
    control.process_segment(name=name, **{**given, **more})


def attempt(call: Callable[[], Any]) -> list[str]:
    """Return what the call returned or raised, for SEEN."""
    try:
        return ["returned", repr(call())]
    except BaseException as error:
        return [type(error).__name__, str(error)]
