"""What the parent, or another thread of the child, asks of Sprint: a segment's criterion, or an automaton."""

from __future__ import annotations

import abc
import threading
from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import BatchError
from ..ring import Array, Claim, Record
from .link import ParentLink

# Looked up once: these stand in what runs for each segment.
_ERROR_SIGNAL, _FLOAT32, _ANSWERED = lib.SHMB_ERROR_SIGNAL, lib.SHMB_FLOAT32, lib.SHMB_ANSWERED

_NOTHING: Array = np.empty((0, 0), np.float32)


class Request(abc.ABC):
    """Something to be answered, once, by an answer or by a failure.

    Attributes:
        name: the full segment name.
        answered: whether it has been.
    """

    name: str
    answered = False

    def fail(self, error: BaseException) -> None:
        """Answer with an exception; Sprint goes on."""
        if not self.answered:
            self.answered = True
            self._fail(error)

    @abc.abstractmethod
    def _fail(self, error: BaseException) -> None:
        """Answer with an exception."""


class SegmentRequest(Request):
    """Posteriors whose loss and error signal are asked for.

    Attributes:
        posteriors: (time,label) float32, log space. Valid until the request is answered, and for as
            long as an array views them.
        loss: what Sprint has told so far, or None.
        error_signal: (time,label), what Sprint has given so far, or None.
        notified: Sprint said that it starts this segment.
        asked: Sprint has asked for the posteriors.
    """

    posteriors: Array
    loss: Optional[float] = None
    error_signal: Optional[Array] = None
    notified = False
    asked = False

    def give(self, *, loss: Optional[float] = None, error_signal: Optional[Array] = None) -> None:
        """Take a part of the answer; the answer goes out when both parts are there, whichever came first."""
        if self.answered:
            return  # a segment that failed half-way, of which Sprint goes on to tell
        if loss is not None:
            self.loss = loss
        if error_signal is not None:
            self.error_signal = error_signal
        if self.loss is not None and self.error_signal is not None:
            try:
                self._answer(self.loss, self.error_signal)
            except BatchError as error:
                self.fail(error)
            self.answered = True  # not before: an answer that could not be written is still to be failed

    def expect_answer(self) -> None:
        """Sprint is about to calculate this segment, in this thread."""
        self.asked = True

    def skip(self) -> None:
        """Answer that Sprint discarded the segment, or gave no error signal for it."""
        if not self.answered:
            self.answered = True
            self._skip()

    @abc.abstractmethod
    def _answer(self, loss: float, error_signal: Array) -> None:
        """Answer with loss and error signal (time,label). BatchError: the latter has another shape."""

    @abc.abstractmethod
    def _skip(self) -> None:
        """Answer that there is neither."""

    def _check_shape(self, error_signal: Array) -> None:
        if error_signal.shape != self.posteriors.shape:
            raise BatchError(
                f"Sprint's error signal is {error_signal.shape} (time,label), "
                f"the posteriors are {self.posteriors.shape} [shape-in-sprint]"
            )


class ParentSegment(SegmentRequest):
    """A segment that the parent sent: posteriors and answer lie in the rings."""

    def __init__(self, link: ParentLink, name: str, record: Record) -> None:
        posteriors = record.matrix
        if posteriors is None:
            raise ValueError("the record was released [claim-state]")
        self.name = name
        self.posteriors = posteriors  # these arrays alone keep the record
        self._link = link
        self._sequence = record.sequence
        self._claim: Optional[Claim] = None

    def _answer(self, loss: float, error_signal: Array) -> None:
        link = self._link
        claim, self._claim = self._claim, None
        if claim is None or not claim.holds(error_signal):
            self._check_shape(error_signal)
            claim = claim or link.claim(_ERROR_SIGNAL, *error_signal.shape, sequence=self._sequence)
            if claim is not None:
                np.copyto(claim.matrix, error_signal, casting="same_kind")
        if claim is not None:
            claim.commit(_ANSWERED, loss)
        self._let_go()

    def expect_answer(self) -> None:
        """Have the error signal allocated where it is to be sent from, if there is room for it now."""
        self.asked = True
        if self._claim is None:
            rows, columns = self.posteriors.shape
            self._claim = self._link.channel.sender.claim_record(
                _ERROR_SIGNAL, _FLOAT32, rows, columns, self._sequence, b""
            )
            if self._claim is not None:
                self._claim.expect_allocation()

    def _skip(self) -> None:
        self._claim = None
        claim = self._link.claim(_ERROR_SIGNAL, 0, 0, sequence=self._sequence)
        if claim is not None:
            claim.commit(lib.SHMB_SKIPPED)
        self._let_go()

    def _fail(self, error: BaseException) -> None:
        self._claim = None
        send_failure(self._link, _ERROR_SIGNAL, self._sequence, error)
        self._let_go()

    def _let_go(self) -> None:
        # Not released but let go: Sprint, or its user's code, may still hold a view.
        self.posteriors = _NOTHING
        self.error_signal = None


class LocalSegment(SegmentRequest):
    """A segment that another thread of this process hands to Sprint's thread."""

    def __init__(self, name: str, posteriors: Array) -> None:
        self.name = name
        self.posteriors = posteriors
        self._done = threading.Event()
        self._result: tuple[float, Array] = (float("inf"), np.zeros_like(posteriors))
        self._error: Optional[BaseException] = None

    def result(self) -> tuple[float, Array]:
        """Wait for (loss, error signal (time,label)); a skipped segment has (inf, zeros).

        Raises:
            Exception: what Sprint's callback raised.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _answer(self, loss: float, error_signal: Array) -> None:
        self._check_shape(error_signal)
        self._result = (loss, error_signal)
        self._done.set()

    def _skip(self) -> None:
        self._done.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._done.set()


class AutomatonRequest(Request):
    """The parent asks for a segment's allophone state automaton."""

    def __init__(self, link: ParentLink, name: str, sequence: int) -> None:
        self.name = name
        self._link = link
        self._sequence = sequence

    def answer(self, num_states: int, num_edges: int, edges: Array, weights: Array) -> None:
        """Send what Sprint's callback exported: edges uint32 (3*E,), weights float32 (E,)."""
        matrix = np.empty((4, num_edges), np.uint32)
        matrix[:3] = np.asarray(edges, np.uint32).reshape(3, num_edges)
        matrix[3] = np.asarray(weights, np.float32).view(np.uint32)
        claim = self._link.claim(
            lib.SHMB_AUTOMATON, 4, num_edges, sequence=self._sequence, dtype=lib.SHMB_UINT32
        )
        if claim is not None:
            claim.matrix[...] = matrix
            claim.commit(lib.SHMB_ANSWERED, 0.0, num_states)
        self.answered = True

    def _fail(self, error: BaseException) -> None:
        send_failure(self._link, lib.SHMB_AUTOMATON, self._sequence, error)


def send_failure(link: ParentLink, kind: int, sequence: int, error: BaseException) -> None:
    """Answer a request with the exception's type, message and traceback, as JSON."""
    report = np.frombuffer(protocol.encode_report(error), np.uint8)
    claim = link.claim(kind, 1, len(report), sequence=sequence, dtype=lib.SHMB_UINT8)
    if claim is not None and claim.matrix is not None:
        claim.matrix[0] = report
        claim.commit(lib.SHMB_FAILED)
