"""Requests from the parent, or from another thread of the child: a segment's criterion, or an automaton."""

from __future__ import annotations

import abc
import enum
import threading
from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import BatchError, UsageError
from ..ring import Array, Claim, Record
from .link import Landing, ParentLink
from .output import warn

# Module globals, because the path of each segment uses them: attributes of lib are slower.
_ERROR_SIGNAL, _FLOAT32, _ANSWERED = lib.SHMB_ERROR_SIGNAL, lib.SHMB_FLOAT32, lib.SHMB_ANSWERED
_ON_TRIAL, _ON, _OFF = Landing

_NOTHING: Array = np.empty((0, 0), np.float32)


class SprintParts(enum.Flag):
    """The parts of Sprint that have called Python. They tell what Sprint's configuration enables."""

    NONE = 0
    CONTROL = enum.auto()  # PythonControl, which announces each segment
    POSTERIORS = enum.auto()  # a Python layer or the callback, which request posteriors


_ALL_PARTS = SprintParts.CONTROL | SprintParts.POSTERIORS


class Request(abc.ABC):
    """A request, to be answered once: with a result or with an exception.

    Attributes:
        name: the full segment name.
        answered: whether the answer was sent.
    """

    name: str
    answered = False

    def fail(self, error: BaseException) -> None:
        """Answer with an exception, unless the request is answered. Sprint continues."""
        if not self.answered:
            self.answered = True
            self._fail(error)

    def settle(self) -> None:  # noqa: B027 - nothing to do for most requests
        """Make sure that the answer is sent. Sprint is done with the request."""

    @abc.abstractmethod
    def _fail(self, error: BaseException) -> None:
        """Send the exception."""


class SegmentRequest(Request):
    """A request for the loss and the error signal of posteriors.

    Attributes:
        posteriors: (time,label) float32, log space. Valid until the request is answered, and for as
            long as an array views them.
        loss: the loss, or None until Sprint passes it.
        error_signal: (time,label), or None until Sprint passes it.
        announced: whether Sprint announced that it works on this segment.
        posteriors_requested: whether Sprint requested the posteriors.
    """

    posteriors: Array
    loss: Optional[float] = None
    error_signal: Optional[Array] = None
    announced = False
    posteriors_requested = False

    def posteriors_of_shape(self, expected: tuple[int, int]) -> Array:
        """Return the posteriors for a Sprint that expects this shape (time,label).

        If the parent sent another shape, answer with a BatchError and return uniform posteriors.
        """
        self.expect_answer()
        if self.posteriors.shape == expected:
            return self.posteriors
        self.fail(
            BatchError(
                f"the posteriors are {self.posteriors.shape} (time,label); "
                f"Sprint expects {expected} for this segment [shape-in-sprint]"
            )
        )
        return np.full(expected, -np.log(expected[1]), np.float32)

    def expect_answer(self) -> None:
        """Prepare for the error signal, which Sprint is about to compute in this thread."""
        self.posteriors_requested = True

    def set_part(self, *, loss: Optional[float] = None, error_signal: Optional[Array] = None) -> None:
        """Store loss or error signal, and send the answer as soon as both are there, in either order."""
        if self.answered:
            return  # The segment failed half-way, and Sprint still passes the rest of its results.
        if loss is not None:
            self.loss = loss
        if error_signal is not None:
            self.error_signal = error_signal
        if self.loss is not None and self.error_signal is not None:
            self.answer(self.loss, self.error_signal)

    def answer(self, loss: float, error_signal: Array) -> None:
        """Send the answer, unless the request is answered."""
        if self.answered:
            return
        self.loss = loss
        try:
            self._answer(loss, error_signal)
        except BatchError as error:
            self.fail(error)
        self.answered = True  # Only now: if _answer raises, the caller must still be able to fail.

    def skip(self) -> None:
        """Answer that Sprint computed neither loss nor error signal, unless the request is answered."""
        if not self.answered:
            self.answered = True
            self._skip()

    def finish(self, parts: SprintParts) -> None:
        """Answer with the loss alone, or skip the segment, if Sprint is done with it without an answer.

        In the second case, log the likely cause.

        Args:
            parts: those that have called Python.
        """
        if self.answered:
            self.settle()
            return
        if self.loss is not None and self.posteriors_requested:
            self.answered = True
            self._answer_loss(self.loss)
            return
        cause = ""
        if self.announced and self.posteriors_requested:
            cause = "; often it has too few frames for its words, or its lattice does not fit"
        elif not self.announced and not self.posteriors_requested and parts == _ALL_PARTS:
            cause = "; Sprint did not begin it: often its lattice or its features cannot be read"
        warn(f"segment {self.name!r}: Sprint gave no error signal; answered as skipped{cause} [skipped]")
        if not self.announced and SprintParts.CONTROL not in parts:
            warn(
                f"segment {self.name!r}: no segment notification: "
                "is PythonControl enabled in Sprint's trainer? [segment-order]"
            )
        if not self.posteriors_requested and SprintParts.POSTERIORS not in parts:
            warn(
                f"segment {self.name!r}: not asked for posteriors: "
                "does Sprint's network have the Python layer? [segment-order]"
            )
        self.skip()

    @abc.abstractmethod
    def _answer(self, loss: float, error_signal: Array) -> None:
        """Send loss and error signal (time,label); raise BatchError if the latter has another shape."""

    @abc.abstractmethod
    def _answer_loss(self, loss: float) -> None:
        """Send the loss of a segment for which Sprint computed no error signal."""

    @abc.abstractmethod
    def _skip(self) -> None:
        """Send that the segment was skipped."""

    def _check_shape(self, error_signal: Array) -> None:
        if error_signal.shape != self.posteriors.shape:
            raise BatchError(
                f"Sprint's error signal is {error_signal.shape} (time,label); "
                f"it must be {self.posteriors.shape}, as the posteriors [shape-in-sprint]"
            )


class ParentSegment(SegmentRequest):
    """A segment that the parent sent. Its posteriors and its answer are in the rings."""

    _claim: Optional[Claim] = None  # for the answer, ahead of it
    _unsettled: Optional[Claim] = None  # of the answer, until Sprint is done with the segment

    def __init__(self, link: ParentLink, name: str, record: Record) -> None:
        posteriors = record.matrix
        if posteriors is None:
            raise ValueError("the record was released [claim-state]")
        self.name = name
        self.posteriors = posteriors  # Only this array and its views keep the record.
        self._link = link
        self._sequence = record.sequence

    def expect_answer(self) -> None:
        """Have NumPy allocate the error signal in the ring, if the ring has room for it now."""
        self.posteriors_requested = True
        if self._claim is None:
            link = self._link
            rows, columns = self.posteriors.shape
            self._claim = claim = link.channel.sender.claim_record(
                _ERROR_SIGNAL, _FLOAT32, rows, columns, self._sequence, b""
            )
            landing = link.landing
            if claim is not None and landing is not _OFF:
                claim.expect_allocation(landing is _ON)

    def settle(self) -> None:
        """Answer with a copy if Sprint still holds the array that it has passed, and could change it."""
        claim = self._unsettled
        if claim is None:
            return
        self._unsettled = None
        if claim.take_back():
            error_signal = claim.matrix.copy()
            self._give_up(claim)
            self._send_copy(None, self.loss or 0.0, error_signal)
        elif self._link.landing is _ON_TRIAL:
            lives = claim.allocation_lives()
            if lives is not None:
                self._link.landing = _OFF if lives else _ON

    def _answer(self, loss: float, error_signal: Array) -> None:
        claim, self._claim = self._claim, None
        if claim is not None and claim.holds(error_signal):
            claim.commit_when_freed(loss)
            self._unsettled = claim
        else:
            self._check_shape(error_signal)
            if claim is not None and self._link.landing is _ON and claim.allocation_lives():
                self._give_up(claim)  # It has become another array of Sprint's.
                claim = None
            self._unsettled = self._send_copy(claim, loss, error_signal)
        # As _drop_views, without a call.
        self.posteriors = _NOTHING
        self.error_signal = None

    def _give_up(self, claim: Claim) -> None:
        """Leave the claim's memory to the array that Sprint holds in it, and let no other array land."""
        claim.abort()
        self._link.landing = _OFF

    def _send_copy(self, claim: Optional[Claim], loss: float, error_signal: Array) -> Optional[Claim]:
        claim = claim or self._link.claim(_ERROR_SIGNAL, *error_signal.shape, sequence=self._sequence)
        if claim is not None:
            np.copyto(claim.matrix, error_signal, casting="same_kind")
            claim.commit(_ANSWERED, loss)
        return claim

    def _answer_loss(self, loss: float) -> None:
        self._send_empty(_ANSWERED, loss)

    def _skip(self) -> None:
        self._send_empty(lib.SHMB_SKIPPED, 0.0)

    def _send_empty(self, status: int, loss: float) -> None:
        self._claim = None
        claim = self._link.claim(_ERROR_SIGNAL, 0, 0, sequence=self._sequence)
        if claim is not None:
            claim.commit(status, loss)
        self._drop_views()

    def _fail(self, error: BaseException) -> None:
        self._claim = None
        send_failure(self._link, _ERROR_SIGNAL, self._sequence, error)
        self._drop_views()

    def _drop_views(self) -> None:
        # The record is not released here, because Sprint or the user's code may still hold a view.
        self.posteriors = _NOTHING
        self.error_signal = None


class LocalSegment(SegmentRequest):
    """A segment that another thread of this process passes to Sprint's thread."""

    def __init__(self, name: str, posteriors: Array) -> None:
        self.name = name
        self.posteriors = posteriors
        self._done = threading.Event()
        self._result: tuple[float, Array] = (float("inf"), np.zeros_like(posteriors))
        self._error: Optional[BaseException] = None

    @classmethod
    def without_caller(cls, name: str) -> LocalSegment:
        """Return a segment whose result nobody receives. Sprint gets uniform posteriors."""
        segment = cls(name, _NOTHING)
        segment.answered = True
        return segment

    def result(self) -> tuple[float, Array]:
        """Wait for the answer and return (loss, error signal (time,label)); (inf, zeros) if skipped.

        Raises:
            Exception: the exception that Sprint's callback raised.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _answer(self, loss: float, error_signal: Array) -> None:
        self._check_shape(error_signal)
        self._result = (loss, error_signal)
        self._done.set()

    def _answer_loss(self, loss: float) -> None:
        self._fail(
            UsageError(
                f"Sprint gave the loss {loss} of segment {self.name!r} but no error signal; put an identity "
                "layer above the Python layer, and set estimator=dry-run [loss-alone]"
            )
        )

    def _skip(self) -> None:
        self._done.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._done.set()


class AutomatonRequest(Request):
    """A request of the parent for a segment's allophone state automaton."""

    def __init__(self, link: ParentLink, name: str, sequence: int) -> None:
        self.name = name
        self._link = link
        self._sequence = sequence

    def answer(self, num_states: int, num_edges: int, edges: Array, weights: Array) -> None:
        """Send the automaton as Sprint's callback returns it: edges uint32 (3*E,), weights float32 (E,)."""
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
