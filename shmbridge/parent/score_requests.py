"""What one child requests while it recognises: the scores of features."""

from __future__ import annotations

import contextlib
import enum
from collections import deque
from operator import methodcaller
from typing import Optional

from .._native import lib
from ..errors import ProtocolError, UsageError
from ..ring import Claim, Consumer, Producer, Record
from .clock import Clock

_ANSWERED, _FLOAT32 = lib.SHMB_ANSWERED, lib.SHMB_FLOAT32
_RECEIVE = methodcaller("receive")


class Asking(enum.Enum):
    """Who waits for whom.

    NOBODY: no score request is open, and the child need not send one.
    TRAINER: serve_scores waits for the child's next request, or for its end.
    SPRINT: a request is open; Sprint waits for its scores.
    NEVER: the child waits for segments, and so never requests scores.
    """

    NOBODY = "nobody"
    TRAINER = "trainer"
    SPRINT = "sprint"
    NEVER = "never"


class ScoreRequests:
    """The score requests of one child, one at a time.

    Not thread-safe: the pool serialises.

    Args:
        clock: the child's.
        timeout: the user's option segment_timeout, which runs while the trainer waits for a request.

    Attributes:
        state: see Asking. It stays SPRINT if the child ends before it has its scores.
        features: the features of the open request; None if there is none, or if the child has ended.
        received: the number of requests so far.
    """

    def __init__(self, clock: Clock, timeout: Optional[float]) -> None:
        self._clock = clock
        self._timeout = timeout
        self.state = Asking.NOBODY
        self.features: Optional[Record] = None
        self.received = 0
        self._inbox: deque[Optional[Record]] = deque()

    def begin_serving(self) -> None:
        """Expect requests from now on."""
        if self.state is Asking.NOBODY:
            self.state = Asking.TRAINER
            self._clock.begin(self._timeout)

    def end_serving(self) -> None:
        """Leave the next request open until the next call."""
        if self.state is Asking.TRAINER:
            self.state = Asking.NOBODY
        self._clock.stop()

    def expect_none(self) -> None:
        """Expect no requests: the child waits for segments."""
        if self.state is Asking.TRAINER:
            self._clock.stop()
        if self.state is not Asking.SPRINT:
            self.state = Asking.NEVER

    def receive(self, receiver: Consumer) -> Optional[Record]:
        """Receive a record, or the same one again until `take` has stored it: Ctrl-C must not lose it."""
        inbox = self._inbox
        if not inbox or inbox[0] is None:
            inbox.clear()
            inbox.extend(map(_RECEIVE, (receiver,)))  # one step in C, where no signal is handled
        return inbox[0]

    def take(self, features: Record) -> None:
        """Store the child's next request.

        Raises:
            ProtocolError: the features are invalid, or Sprint must not send any now.
        """
        if self.state is Asking.SPRINT:
            raise ProtocolError("Sprint sent features while it waits for the scores of others [scorer-order]")
        if self.state is Asking.NEVER:
            raise ProtocolError(
                "Sprint requested feature scores while it computes the trainer's segments; remove "
                "python-feature-scorer from this configuration [serving]"
            )
        _validate_features(features)
        self.features = features
        self.received += 1
        self.state = Asking.SPRINT
        self._inbox.clear()

    def try_claim_answer(self, sender: Producer, rows: int, columns: int, dtype: int) -> Optional[Claim]:
        """Claim a record for the answer; return None if the ring has no room now.

        In that case the child must first consume padding; segment_timeout runs until it does.

        Args:
            sender: the ring to the child.
            rows, columns: the shape of the scores (time,label), or of an error report.
            dtype: the ring's number for their dtype.

        Raises:
            SegmentTooLargeError: the record can never fit.
            BufferError: the ring has no room until the user sends, aborts or deletes what is held.
            ProtocolError: the child wrote an invalid position.
        """
        if self.features is None:
            raise UsageError("Sprint waits for no scores [scorer-order]")
        claim = sender.claim(lib.SHMB_SCORES, rows, columns, sequence=self.features.sequence, dtype=dtype)
        if claim is None and self._clock.deadline is None:
            self._clock.begin(self._timeout)
        return claim

    def answer(self, claim: Claim, status: int = _ANSWERED) -> None:
        """Send a filled claim as the answer."""
        features = self.features
        try:
            self.features, self.state = None, Asking.TRAINER
            claim.commit(status)
        except BaseException:  # Ctrl-C may come just before or just after the commit itself
            with contextlib.suppress(UsageError):  # raised if the claim is committed
                claim.abort()
                self.features, self.state = features, Asking.SPRINT
            raise
        self._clock.begin(self._timeout)


def _validate_features(record: Record) -> None:
    rows, columns = record.shape
    is_valid = record.status == _ANSWERED and record.dtype == _FLOAT32 and rows > 0 and columns > 0
    if not is_valid or not 0 < record.states < 1 << 32:
        raise ProtocolError(
            f"Sprint's features are {record.shape} of dtype {record.dtype}, status {record.status}, for "
            f"{record.states} labels; they must be (time,dim) of dtype {_FLOAT32} [bad-answer]"
        )
