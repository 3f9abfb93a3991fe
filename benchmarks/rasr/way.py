"""The interface of a way: a round over the batch."""

from __future__ import annotations

import abc
import contextlib
from dataclasses import dataclass
from typing import Optional

from .work import Array, Work


@dataclass(frozen=True)
class Round:
    """The result of a round.

    Attributes:
        nanoseconds: of the whole batch.
        losses: (batch,).
        error_signal: (time,batch,label), or None if it stays in the nn-trainer.
    """

    nanoseconds: int
    losses: Array
    error_signal: Optional[Array]


class Way(abc.ABC):
    """A way to compute a batch with an nn-trainer. A context manager, which ends the nn-trainer.

    `_start` enters all its resources into `self.resources`, which closes them in reverse order.

    Args:
        work: the batch.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.resources = contextlib.ExitStack()

    @abc.abstractmethod
    def _start(self) -> None:
        """Start the nn-trainer, or prepare the first round, which starts it."""

    @abc.abstractmethod
    def round(self) -> Round:
        """Compute the batch once. The arrays are valid until the next round."""

    def __enter__(self) -> Way:
        try:
            self._start()
        except BaseException:
            self.resources.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()
