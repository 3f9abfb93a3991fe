"""In a real Sprint, in place of sprint_entry: the same calls as through the bridge, and no parent.

Sprint's control loop comes here. Each line on standard input asks for one round over all segments; the
answer, on the descriptor that the config string names, is a line of JSON: the nanoseconds that it took, and
the losses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def posteriors_of(index: int, frames: int, labels: int) -> Array:
    """Log posteriors (time,label) of a segment, made up."""
    logits = np.random.default_rng(index).standard_normal((frames, labels), np.float32)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


class Alone:
    """What Sprint calls."""

    def __init__(self, config: str) -> None:
        self._settings = dict(setting.partition(":")[::2] for setting in config.split(","))

    def run_control_loop(self, callback: Callable[..., Any], **_more: Any) -> None:
        """Calculate a round for each line."""
        names = self._settings["names"].split(";")
        frames, labels = int(self._settings["frames"]), int(self._settings["labels"])
        posteriors = [posteriors_of(index, frames, labels) for index in range(len(names))]
        with open(int(self._settings["answers"]), "w") as answers:
            for _ in sys.stdin:
                start = time.perf_counter_ns()
                losses = []
                for name, matrix in zip(names, posteriors):
                    # The error signal is not kept: Sprint takes its memory anew for the next.
                    losses.append(self._loss(callback, name, matrix))
                answer = {"nanoseconds": time.perf_counter_ns() - start, "losses": losses}
                answers.write(json.dumps(answer) + "\n")
                answers.flush()

    def _loss(self, callback: Callable[..., Any], name: str, matrix: Array) -> Any:
        return callback(
            "calculate_criterion",
            posteriors=matrix.T,
            orthography=callback("get_orthography_by_segment_name", segment_name=name),
            output_error_type="error-signal",
            segment_name=name,
        )[0]

    def exit(self, **_more: Any) -> None:
        """Sprint is done."""


def init(config: str, **_more: Any) -> Alone:
    """Called by Sprint."""
    return Alone(config)
