"""The interface of a peer, and its work."""

from __future__ import annotations

import abc
import contextlib
from types import TracebackType
from typing import Any, Optional

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SEGMENT_NAME = "corpus/recording/segment"
TIMEOUT = 60.0  # seconds that a peer may take to answer


class PeerFailedError(Exception):
    """A peer cannot start, or returned a wrong result."""


class Work:
    """One segment, and the trainer's arrays for it.

    Peers that copy read the posteriors from here, and write the error signal here. They take turns, so they
    share the arrays.

    Args:
        rows: number of frames.
        columns: number of labels.

    Attributes:
        posteriors: (time,batch,label) float32, a batch of one.
        error_signal: the same shape, to be written.
        lengths: (batch,), for get_batch_loss_and_error_signal.
        tags: the segment name, in a list.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        # Filled, not zeroed: pages that were never written would all map to the same zero page.
        self.posteriors: Array = np.full((rows, 1, columns), -np.log(columns), np.float32)  # normalized
        self.error_signal: Array = np.full((rows, 1, columns), -1.0, np.float32)
        self.lengths: Array = np.array([rows], np.int32)
        self.tags = [SEGMENT_NAME]

    @property
    def nbytes(self) -> int:
        """Return the size of one matrix in bytes."""
        return 4 * self.rows * self.columns


class Peer(abc.ABC):
    """A way to send posteriors to a child with a null criterion, and to receive loss and error signal.

    A context manager: entering it starts the child; leaving it ends the child and removes everything that it
    left, even after an error. `_start` enters all resources into `self.resources`, which closes them in
    reverse order.

    Args:
        work: the segment.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.resources = contextlib.ExitStack()

    @abc.abstractmethod
    def _start(self) -> None:
        """Start the child and prepare the exchange."""

    @abc.abstractmethod
    def round_trip(self, value: float) -> float:
        """Exchange one segment.

        Args:
            value: the float to write into the posteriors.

        Returns:
            The float that is read from the error signal, into which the child copied `value`.
        """

    def begin_block(self) -> None:  # noqa: B027 - most peers do nothing here
        """Prepare for round trips: a spinning child may start to spin."""

    def end_block(self) -> None:  # noqa: B027
        """Stop using a core, because other peers are measured next."""

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
