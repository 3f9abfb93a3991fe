"""In a real Sprint, in place of sprint_entry: the same calls as through the bridge, and no parent.

Sprint comes here in its control loop, or from its trainer, whose network is a Python layer. Each line on
standard input asks for one round over all segments; the answer, on the descriptor that the config string
names, is a line of JSON: the nanoseconds that it took, and the losses. Error signals are not kept: Sprint
takes their memory anew for the next.
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
    """Log posteriors (time,label) of a segment, made up."""
    logits = np.random.default_rng(index).standard_normal((frames, labels), np.float32)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


class Rounds:
    """The segments, and rounds over them.

    Attributes:
        names: of the segments.
        posteriors: (time,label) of each.
        losses: of the round that is under way, so far.
        current: the posteriors of the segment that Sprint's trainer is at.
    """

    def __init__(self, config: str) -> None:
        settings = dict(setting.partition(":")[::2] for setting in config.split(","))
        self.names = settings["names"].split(";")
        frames, labels = int(settings["frames"]), int(settings["labels"])
        self.posteriors = [posteriors_of(index, frames, labels) for index in range(len(self.names))]
        self.current = self.posteriors[0]
        self.losses: list[float] = []
        self._answers = open(int(settings["answers"]), "w")  # noqa: SIM115 - as long as Sprint lives

    def __iter__(self) -> Iterator[str]:
        """The names, round after round. Sprint is done with one when it asks for the next."""
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
    """Those of this process: Sprint's segment order, PythonControl and layer come in any order."""
    return Rounds(config)


class Control:
    """What Sprint calls as its PythonControl."""

    def __init__(self, config: str) -> None:
        self._rounds = rounds(config)

    def run_control_loop(self, callback: Callable[..., Any], **_more: Any) -> None:
        """Calculate what is asked for."""
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
        """A trainer begins with a segment."""

    def notify_segment_loss(self, segment_name: Optional[str], loss: float) -> None:
        """A trainer knows its loss."""
        self._rounds.losses.append(loss)

    def exit(self, **_more: Any) -> None:
        """Sprint is done."""


class SprintNnPythonLayer:
    """What a trainer calls as the bottom of its network."""

    def __init__(self, config: str, **_more: Any) -> None:
        self._rounds = rounds(config)
        self._input_size = 0

    def setInputDimension(self, stream: int, size: int) -> None:  # noqa: N802 - Sprint's names, also below
        """The number of features."""
        self._input_size = size

    def setOutputDimension(self, size: int) -> None:  # noqa: N802
        """The number of labels."""

    def initializeNetworkParameters(self) -> None:  # noqa: N802
        """There are none."""

    def isTrainable(self) -> bool:  # noqa: N802
        """Else Sprint would not give the error signal."""
        return True

    def getNumberOfFreeParameters(self) -> int:  # noqa: N802
        """There are none."""
        return 0

    def forward(self, input: Sequence[Array]) -> Array:  # noqa: A002
        """The posteriors (label,time)."""
        transposed: Array = self._rounds.current.T
        return transposed

    def backpropagate(self, errorSignalIn: Array) -> tuple[Array]:  # noqa: N803
        """Take the error signal (label,time)."""
        return (np.zeros((self._input_size, errorSignalIn.shape[1]), np.float32, order="F"),)

    def finalize(self) -> None:
        """Sprint is done."""


def init(config: str, **_more: Any) -> Control:
    """Called by Sprint."""
    return Control(config)


def getSegmentList(config: str, **_more: Any) -> Iterator[str]:  # noqa: N802
    """Called by Sprint's trainer."""
    yield from rounds(config)
