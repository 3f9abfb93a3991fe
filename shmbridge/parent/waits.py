"""What the scheduler can wait for: when the wait is over, and why it may never be.

Before the scheduler blocks, a Wait verifies that the awaited event can still come. If it cannot, the Wait
raises an error that says what to do: nothing is awaited that cannot happen.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Optional

from ..errors import PeerGoneError, UsageError, without_traceback
from ..ring import Claim
from .batch import Batch
from .child import Child
from .child_state import ChildState
from .placement import queue_receivers
from .request import Request, RequestState, no_answer
from .score_requests import Asking
from .supervisor import Slot

_DEAD = ChildState.DEAD
_QUEUED, _IN_FLIGHT = RequestState.QUEUED, RequestState.IN_FLIGHT


class Wait(abc.ABC):
    """One thing to wait for.

    Attributes:
        room_at: the children whose rings must have room first.
    """

    room_at: Sequence[Child] = ()

    @abc.abstractmethod
    def done(self) -> bool:
        """Return whether the wait is over."""

    def check_possible(self) -> None:  # noqa: B027 - a wait may always be possible
        """Raise if the wait can end only after the user has done something.

        Raises:
            UsageError: the message says what to do.
            BufferError: the results that the user holds leave no room in a ring.
        """


class _AnswersOfAll(Wait):
    """Answers that may come from any child.

    Args:
        children: those of the pool.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    def check_possible(self) -> None:
        """Raise if a child can answer nothing."""
        for child in self._children:
            _check_can_answer(child)


class BatchAnswers(_AnswersOfAll):
    """The answers to all requests of a batch."""

    def __init__(self, batch: Batch, children: Sequence[Child]) -> None:
        super().__init__(children)
        self._batch = batch

    def done(self) -> bool:
        """Return whether each request is answered or has failed."""
        return self._batch.outstanding == 0


class SubmittedAnswers(_AnswersOfAll):
    """Anything on which the thread of the submitted batches must act.

    Args:
        has_news: returns whether there is anything.
        children: those of the pool.
    """

    def __init__(self, has_news: Callable[[], bool], children: Sequence[Child]) -> None:
        super().__init__(children)
        self._has_news = has_news

    def done(self) -> bool:
        """Return whether there is anything to act on."""
        return self._has_news()


class Answer(Wait):
    """The answer to one request that was sent, or that is queued for a retry."""

    def __init__(self, request: Request, children: Sequence[Child], queue: Collection[Request]) -> None:
        self._request = request
        self._children = children
        self._queue = queue

    def done(self) -> bool:
        """Return whether the request is answered or has failed."""
        state = self._request.state
        return state is not _IN_FLIGHT and state is not _QUEUED

    def check_possible(self) -> None:
        """Raise if the child that has the request can answer nothing, or if no child has it."""
        request = self._request
        for child in self._children:
            in_flight = child.in_flight
            if in_flight and (in_flight[0][1] is request or in_flight.holds(request)):
                _check_can_answer(child)
                return
        if request not in self._queue:
            raise no_answer(request)
        _check_queue_moves(self._children)


class Room(Wait):
    """Room in a child's ring for one more record; queued requests come first.

    Args:
        pick: returns the child that is to receive the record.
        attempt: claims the record of that child; returns None if there is no room.
        children: those of the pool.
        queue: the requests to send first.

    Attributes:
        child, claim: the child and its claim, once the wait is over.
    """

    child: Child
    claim: Claim

    def __init__(
        self,
        pick: Callable[[], Child],
        attempt: Callable[[Child], Optional[Claim]],
        children: Sequence[Child] = (),
        queue: Collection[Request] = (),
    ) -> None:
        self._pick = pick
        self._attempt = attempt
        self._children = children
        self._queue = queue

    def done(self) -> bool:
        """Try to claim the record. Return whether that succeeded."""
        self.room_at = ()
        if self._queue:
            return False
        child = self._pick()
        claim = None if child.state is _DEAD else self._attempt(child)
        if claim is None:
            self.room_at = (child,)
            return False
        self.child, self.claim = child, claim
        return True

    def check_possible(self) -> None:
        """Raise if the child will release nothing."""
        if self._queue:
            _check_queue_moves(self._children)
        for child in self.room_at:
            _check_can_answer(child)


class Ready(Wait):
    """The hello of the child in each of these slots, or of its replacement."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots

    def done(self) -> bool:
        """Return whether no child is starting.

        Raises:
            PeerGoneError, ProtocolError, BridgeTimeoutError: a child ended before its hello. If one ended
                just after it, the next call raises.
        """
        children = [slot.child for slot in self._slots]
        for child in children:
            if child.error is not None and child.hello is None:
                raise without_traceback(child.error)
        return all(child.state is not ChildState.STARTING for child in children)


class NextScoreRequest(Wait):
    """The next score request of any child, or the end of all children."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    def done(self) -> bool:
        """Return whether a request is open, or all children are done with their corpus.

        Raises:
            PeerGoneError: a child ended before its corpus was done.
        """
        ended = [_has_finished(child) for child in self._children]  # all: any of them may have died
        return all(ended) or any(child.score_requests.features is not None for child in self._children)

    def check_possible(self) -> None:
        """Raise if a child can request nothing."""
        for child in self._children:
            _check_can_request(child)


def _has_finished(child: Child) -> bool:
    """Return whether the child has ended with its corpus done; raise its error if the corpus is not done."""
    error = child.error
    if error is None:
        return False
    if (
        isinstance(error, PeerGoneError)
        and error.exit_code == 0
        and child.score_requests.state is not Asking.SPRINT
    ):
        return True
    raise without_traceback(error)


def check_no_open_claim(children: Sequence[Child]) -> None:
    """Raise UsageError if a claim is open, behind which Sprint would receive all that is sent now."""
    for child in children:
        claim = child.oldest_open_claim()
        if claim is not None:
            raise UsageError(
                f"segment {claim[1]!r} is claimed and not sent; Sprint receives segments in the order of "
                "their claims: send or abort it first [behind-claim]"
            )


def _check_can_answer(child: Child) -> None:
    """Raise if the child cannot answer its oldest request until the user has done something.

    Raises:
        UsageError: Sprint waits for scores; or the oldest request lies behind a claim that is not sent.
        BufferError: Sprint has no room for the answer, and the user holds results.
    """
    if not child.in_flight or child.state is _DEAD:  # its end is the next event
        return
    oldest, request = child.in_flight[0]
    name = request.name
    if child.score_requests.features is not None:
        raise UsageError(
            f"segment {name!r} cannot be answered: Sprint waits for feature scores; call serve_scores() "
            "first [serving]"
        )
    claim = child.oldest_open_claim()
    if claim is not None and claim[0] < oldest:
        raise UsageError(
            f"segment {name!r} cannot be answered before {claim[1]!r}, which was claimed earlier on the same "
            "child and is not sent; Sprint receives segments in the order of their claims: send or abort "
            "that one [behind-claim]"
        )
    if child.no_room is None:
        return
    receiver = child.channel.receiver
    if child.no_room == (oldest, receiver.released) and receiver.used:
        raise BufferError(
            f"Sprint has no room to answer for {name!r}: {receiver.used} of {receiver.capacity} bytes of "
            "the ring lie behind the oldest result that is held; release the results and their arrays, or "
            "raise ring_size [ring-full]"
        )


def _check_queue_moves(children: Sequence[Child]) -> None:
    """Raise if none of the children that may receive queued requests can become free for one."""
    receivers = queue_receivers(children)
    for child in receivers:
        with contextlib.suppress(UsageError, BufferError):
            _check_can_answer(child)
            return
    for child in receivers:  # the error of the first says what to do
        _check_can_answer(child)


def _check_can_request(child: Child) -> None:
    """Raise if the child cannot send a score request until the user has done something.

    Raises:
        UsageError: Sprint waits for segments.
        BufferError: Sprint has no room for its features, and the user holds earlier ones.
    """
    if child.state is _DEAD:
        return
    if child.score_requests.state is Asking.NEVER:
        raise UsageError(
            "this Sprint waits for segments of the trainer and never requests scores: it runs the control "
            "loop, or the segment order of use_python_segment_order=True; set that to False, and give Sprint "
            "an action that recognises or aligns (docs/ways.md) [no-score-requests]"
        )
    receiver, no_room = child.channel.receiver, child.no_room
    if no_room is not None and no_room[1] == receiver.released and receiver.used:
        raise BufferError(
            f"Sprint has no room for the next features: {receiver.used} of {receiver.capacity} bytes of the "
            "ring lie behind the oldest features that are held; release them and their views, or raise "
            "ring_size [scores-held]"
        )
