"""One thing sent to a child: its state, and which record answers it."""

from __future__ import annotations

import abc
import contextlib
import enum
from bisect import bisect
from collections import deque
from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import ProtocolError, RemoteError, ShmbridgeError, UsageError
from ..ring import Claim, Record

_ANSWERED, _FAILED, _FLOAT32 = lib.SHMB_ANSWERED, lib.SHMB_FAILED, lib.SHMB_FLOAT32


class RequestState(enum.Enum):
    """The life of a request. A request whose child ends goes from IN_FLIGHT back to QUEUED."""

    QUEUED = "queued"
    IN_FLIGHT = "in flight"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_QUEUED, _IN_FLIGHT = RequestState.QUEUED, RequestState.IN_FLIGHT  # global names cost less on the hot path


class Request(abc.ABC):
    """One thing sent to a child, from the queue to its answer. It never sees the child.

    Attributes:
        name: the full segment name.
        kind: the kind of record that carries it.
        rows, columns: the shape of its matrix, and of the answer's; 0 x 0 if it has none.
        answer_kind: the kind of record that answers it.
        state: see RequestState.
        retries: how many children have ended while they worked on it.
        takes_loss_alone: whether the loss without an error signal is an answer.
    """

    name: str
    kind = lib.SHMB_POSTERIORS
    rows = 0
    columns = 0
    answer_kind = lib.SHMB_ERROR_SIGNAL
    state = RequestState.QUEUED
    retries = 0
    takes_loss_alone = False

    @property
    def is_open(self) -> bool:
        """Whether the request still waits for an answer."""
        return self.state is _IN_FLIGHT or self.state is _QUEUED

    def cancel(self) -> None:
        """Discard the answer when it comes: its caller has left."""
        if self.is_open:
            self.state = RequestState.CANCELLED

    @abc.abstractmethod
    def fill(self, claim: Claim) -> None:
        """Write the request into a claim of `rows` x `columns`.

        Raises:
            BatchError: the posteriors are invalid.
        """

    def sent(self) -> None:  # noqa: B027 - most have nothing to do
        """Do what can be done while Sprint computes."""

    @abc.abstractmethod
    def accept(self, record: Record) -> None:
        """Take the answer, unless the request was cancelled.

        Args:
            record: with status ANSWERED or SKIPPED; its kind and shape are valid.
        """

    def fail(self, error: ShmbridgeError) -> None:
        """Store the error: there will be no answer."""
        if self.is_open:
            self.state = RequestState.FAILED
            self._take_error(error)

    def skip(self, error: ShmbridgeError) -> None:
        """Answer as if Sprint had skipped the segment: each child died on it (skip_fatal_segments)."""
        self.fail(error)

    @abc.abstractmethod
    def _take_error(self, error: ShmbridgeError) -> None: ...


def no_answer(request: Request) -> UsageError:
    """Return the error for a request that is neither answered, nor sent, nor queued."""
    return UsageError(
        f"segment {request.name!r} has no answer: the call that was to receive it was interrupted, by Ctrl-C "
        "for instance; claim the segment again [claim-state]"
    )


def validate_answer(record: Record, sequence: int, request: Request) -> Optional[ShmbridgeError]:
    """Validate a record that is not the matrix that `request` asked for. A child may write any bytes.

    Returns:
        The error that the child reports, or that there is only a loss; None if Sprint skipped the segment, or
        if the answer is valid.

    Raises:
        ProtocolError: the record does not answer this request.
    """
    if record.sequence != sequence:
        raise ProtocolError(
            f"Sprint answered request {record.sequence}; the next to be answered is {sequence} [bad-answer]"
        )
    if record.kind != request.answer_kind:
        raise ProtocolError(
            f"the answer for {request.name!r} is of kind {record.kind}; it must be of kind "
            f"{request.answer_kind} [bad-answer]"
        )
    if record.status == _FAILED:
        return _remote_error(request.name, record)
    if record.status == _ANSWERED and request.rows:
        if record.shape == (0, 0):
            return None if request.takes_loss_alone else _loss_alone(request.name, record.loss)
        raise ProtocolError(
            f"the answer for {request.name!r} is {record.shape} of dtype {record.dtype}; it must be "
            f"{(request.rows, request.columns)} of dtype {_FLOAT32} [bad-answer]"
        )
    return None


def _loss_alone(name: str, loss: float) -> UsageError:
    return UsageError(
        f"Sprint gave the loss {loss} of segment {name!r} but no error signal; put an identity layer above "
        "the Python layer and set estimator=dry-run, or call get_batch_loss [loss-alone]"
    )


def _remote_error(name: str, record: Record) -> RemoteError:
    """Return the exception that the child reports in the record."""
    matrix = record.matrix
    if matrix is None or matrix.dtype != np.uint8:
        raise ProtocolError(f"the failure report for {name!r} is not bytes [bad-answer]")
    return RemoteError(name, *protocol.read_report(matrix.tobytes(), repr(name)))


class InFlight(deque[tuple[int, Request]]):
    """The requests that were sent to a child and are not answered, oldest first, with sequence numbers."""

    def add(self, entry: tuple[int, Request]) -> None:
        """Add a request with its sequence number."""
        if not self or self[-1][0] < entry[0]:
            self.append(entry)
        else:  # claimed earlier than requests that were sent before it: Sprint receives it first
            self.insert(bisect(self, entry), entry)

    def discard(self, entry: tuple[int, Request]) -> None:
        """Remove a request, if it is there."""
        with contextlib.suppress(ValueError):
            self.remove(entry)

    def holds(self, request: Request) -> bool:
        """Return whether the request is among them."""
        return any(each is request for _, each in self)

    @property
    def names(self) -> list[str]:
        """Their segment names."""
        return [request.name for _, request in self]

    @property
    def num_frames(self) -> int:
        """The sum of their frames."""
        return sum(request.rows for _, request in self)
