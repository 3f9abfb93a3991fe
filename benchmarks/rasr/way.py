"""What the ways have in common: a round over the batch."""

from __future__ import annotations

import abc
import contextlib
from dataclasses import dataclass
from typing import Optional

from .work import Array, Work


@dataclass(frozen=True)
class Round:
    """What a round has brought.

    Attributes:
        nanoseconds: of the whole batch.
        losses: (batch,).
        error_signal: (time,batch,label), or None where it stays in the nn-trainer.
    """

    nanoseconds: int
    losses: Array
    error_signal: Optional[Array]


class Way(abc.ABC):
    """One way to have a nn-trainer compute a batch. A context manager; leaving it ends the nn-trainer.

    What `_start` opens it enters into `self.resources`, whose order of closing is the reverse.

    Args:
        work: the batch.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.resources = contextlib.ExitStack()

    @abc.abstractmethod
    def _start(self) -> None:
        """Start the nn-trainer, or get ready for a first round that does."""

    @abc.abstractmethod
    def round(self) -> Round:
        """Compute the batch once. The arrays are good until the next round."""

    def __enter__(self) -> Way:
        try:
            self._start()
        except BaseException:
            self.resources.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()
