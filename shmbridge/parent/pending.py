"""Something that was sent to Sprint, or is to be sent, and what is to be done with the answer."""

from __future__ import annotations

import abc
from typing import Optional, Protocol

from .._native import lib
from ..errors import ShmbridgeError
from ..ring import Claim, Record


class Sender(Protocol):
    """What is wanted of a child to send it something: an `Instance`."""

    def try_claim(self, kind: int, rows: int, columns: int, name: bytes) -> Optional[Claim]:
        """Room for a matrix in its ring, or None where there is none now."""

    def send(self, claim: Claim, pending: Pending) -> None:
        """Hand the claim over; its answer goes to `pending`."""


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
    def start(self, sender: Sender) -> bool:
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

    def move_result(self) -> bool:
        """Copy a result that nobody has asked for yet out of the ring. Returns whether it lay there."""
        return False
