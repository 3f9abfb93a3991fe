"""What all peers have in common: the work, and how a round trip is asked for."""

from __future__ import annotations

import abc
import contextlib
from types import TracebackType
from typing import Any, Optional

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SEGMENT_NAME = "corpus/recording/segment"
TIMEOUT = 60.0  # seconds after which a peer that does not answer is given up


class PeerFailedError(Exception):
    """A peer cannot be set up, or has not done its work."""


class Work:
    """One segment, and the trainer's own arrays for it.

    The copying peers take the posteriors from here and put the error signal here; they take turns, so
    they share the arrays.

    Args:
        rows: time.
        columns: labels.

    Attributes:
        posteriors: (time,batch,label) float32, a batch of one.
        error_signal: the same shape; where the error signal is to be put.
        lengths: (batch,), as get_batch_loss_and_error_signal takes it.
        tags: the segment's name.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        # Filled, not zeroed: pages that were never written to would all be one and the same.
        self.posteriors: Array = np.full((rows, 1, columns), -1.0, np.float32)
        self.error_signal: Array = np.full((rows, 1, columns), -1.0, np.float32)
        self.lengths: Array = np.array([rows], np.int32)
        self.tags = [SEGMENT_NAME]

    @property
    def nbytes(self) -> int:
        """The size of one matrix in bytes."""
        return 4 * self.rows * self.columns


class Peer(abc.ABC):
    """One way to get posteriors to a child with a null criterion, and loss and error signal back.

    A context manager: entering starts the child, leaving ends it and removes whatever it left, also after
    an error. What `_start` opens it enters into `self.resources`, whose order of closing is the reverse.

    Args:
        work: the segment.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.resources = contextlib.ExitStack()

    @abc.abstractmethod
    def _start(self) -> None:
        """Start the child and get everything ready."""

    @abc.abstractmethod
    def round_trip(self, value: float) -> float:
        """Exchange one segment.

        Args:
            value: the float to write into the posteriors.

        Returns:
            The float that is read from the error signal; the child has copied `value` to there.
        """

    def begin_block(self) -> None:  # noqa: B027 - most peers have nothing to do here
        """Round trips follow: a child that spins may begin to."""

    def end_block(self) -> None:  # noqa: B027
        """Other peers are measured next: this one must not use a core."""

    def __enter__(self) -> Peer:
        try:
            self._start()
        except BaseException:
            self.resources.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.resources.__exit__(kind, error, traceback)
