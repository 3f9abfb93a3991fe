"""Loaded by a real Sprint instead of sprint_entry: make the same calls as shmbridge, without a parent.

Sprint's control loop uses this module, or its trainer with a Python layer as its network. Each line on
standard input starts one round over all segments. The answer is a line of JSON on the descriptor that the
config string names: the duration in nanoseconds, and the losses. Error signals are not kept, so that Sprint
reuses their memory.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def posteriors_of(index: int, frames: int, labels: int) -> Array:
    """Return random log posteriors (time,label) of a segment."""
    logits = np.random.default_rng(index).standard_normal((frames, labels), np.float32)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


class Rounds:
    """The segments, and rounds over them.

    Attributes:
        names: segment names.
        posteriors: (time,label) of each segment.
        losses: of the current round, so far.
        current: the posteriors of the current segment.
    """

    def __init__(self, config: str) -> None:
        settings = dict(setting.partition(":")[::2] for setting in config.split(","))
        self.names = settings["names"].split(";")
        frames, labels = int(settings["frames"]), int(settings["labels"])
        self.posteriors = [posteriors_of(index, frames, labels) for index in range(len(self.names))]
        self.current = self.posteriors[0]
        self.losses: list[float] = []
        self._answers = open(int(settings["answers"]), "w")  # noqa: SIM115 - open until Sprint ends

    def __iter__(self) -> Iterator[str]:
        """Yield the segment names of each round. Sprint finishes one before it requests the next."""
        for _ in sys.stdin:
            self.losses = []
            start = time.perf_counter_ns()
            for name, posteriors in zip(self.names, self.posteriors):
                self.current = posteriors
                yield name
            answer = {"nanoseconds": time.perf_counter_ns() - start, "losses": self.losses}
            self._answers.write(json.dumps(answer) + "\n")
            self._answers.flush()


@functools.cache
def rounds(config: str) -> Rounds:
    """Return the rounds of this process. Segment order, PythonControl and layer share them."""
    return Rounds(config)


class Control:
    """Sprint's PythonControl."""

    def __init__(self, config: str) -> None:
        self._rounds = rounds(config)

    def run_control_loop(self, callback: Callable[..., Any], **_more: Any) -> None:
        """Calculate the criterion of each segment."""
        for name in self._rounds:
            loss, _ = callback(
                "calculate_criterion",
                posteriors=self._rounds.current.T,
                orthography=callback("get_orthography_by_segment_name", segment_name=name),
                output_error_type="error-signal",
                segment_name=name,
            )
            self._rounds.losses.append(loss)

    def init_segment(self, segment_name: str) -> None:
        """Do nothing: a trainer begins with a segment."""

    def notify_segment_loss(self, segment_name: Optional[str], loss: float) -> None:
        """Store the loss that a trainer computed."""
        self._rounds.losses.append(loss)

    def exit(self, **_more: Any) -> None:
        """Do nothing: Sprint ends."""


class SprintNnPythonLayer:
    """The bottom layer of a trainer's network."""

    def __init__(self, config: str, **_more: Any) -> None:
        self._rounds = rounds(config)
        self._input_size = 0

    def setInputDimension(self, stream: int, size: int) -> None:  # noqa: N802 - Sprint's names, here and below
        """Store the number of features."""
        self._input_size = size

    def setOutputDimension(self, size: int) -> None:  # noqa: N802
        """Do nothing: the number of labels is known."""

    def initializeNetworkParameters(self) -> None:  # noqa: N802
        """The layer has no parameters."""

    def isTrainable(self) -> bool:  # noqa: N802
        """Return True, so that Sprint computes the error signal."""
        return True

    def getNumberOfFreeParameters(self) -> int:  # noqa: N802
        """The layer has no parameters."""
        return 0

    def forward(self, input: Sequence[Array]) -> Array:  # noqa: A002
        """Return the posteriors (label,time)."""
        transposed: Array = self._rounds.current.T
        return transposed

    def backpropagate(self, errorSignalIn: Array) -> tuple[Array]:  # noqa: N803
        """Ignore the error signal (label,time). Return zeros for the features."""
        return (np.zeros((self._input_size, errorSignalIn.shape[1]), np.float32, order="F"),)

    def finalize(self) -> None:
        """Do nothing: Sprint ends."""


def init(config: str, **_more: Any) -> Control:
    """Return the PythonControl. Called by Sprint."""
    return Control(config)


def getSegmentList(config: str, **_more: Any) -> Iterator[str]:  # noqa: N802
    """Yield the segment order. Called by Sprint's trainer."""
    yield from rounds(config)
