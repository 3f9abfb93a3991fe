"""Something that was sent to Sprint, or is to be sent, and what is to be done with the answer."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from .._native import lib
from ..errors import ShmbridgeError
from ..ring import Record

if TYPE_CHECKING:
    from .instance import Instance


class Pending(abc.ABC):
    """One request, until it is answered or has failed. It may be sent more than once: when Sprint ends.

    Attributes:
        name: the full segment name.
        rows, columns: the shape of the answer's matrix, where that is known beforehand; else 0.
        answer_kind: the kind of record that answers it.
        attempts: how often Sprint has ended while it was at this.
        done: the answer, or the error, is there.
    """

    name: str
    rows = 0
    columns = 0
    answer_kind = lib.SHMB_ERROR_SIGNAL
    attempts = 0
    done = False

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return True

    @abc.abstractmethod
    def start(self, instance: Instance) -> bool:
        """Send it to this child. False: there is no room in its ring now.

        Raises:
            ShmbridgeError: it cannot be sent at all.
        """

    @abc.abstractmethod
    def deliver(self, record: Record) -> None:
        """Take the answer: status ANSWERED or SKIPPED, checked for kind and shape."""

    @abc.abstractmethod
    def fail(self, error: ShmbridgeError) -> None:
        """There will be no answer."""

    def skip(self, error: ShmbridgeError) -> None:
        """Sprint does not survive this, and the user does without: as if Sprint had discarded it."""
        self.fail(error)
