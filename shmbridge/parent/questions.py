"""What one Sprint child asks, where it recognises: the scores of features."""

from __future__ import annotations

import contextlib
import time
from typing import Optional

from .._native import lib
from ..errors import ProtocolError, UsageError
from ..ring import Claim, Producer, Record
from .received import check_features


class Questions:
    """A child's questions, one after the other, and their answers. A child that is started anew has new ones.

    Not thread-safe: the pool serialises.

    Attributes:
        unanswered: features whose scores Sprint awaits, or None.
        asked: how many questions have come.
        awaited_since: from when on, of time.monotonic(), Sprint has segment_timeout for its next question, or
            to make room for the answer; None: neither is awaited of it.
        ready_for_requests: Sprint has told that it waits for what it is asked, and so asks nothing.
    """

    def __init__(self) -> None:
        self.unanswered: Optional[Record] = None
        self.asked = 0
        self.awaited_since: Optional[float] = None
        self.ready_for_requests = False

    def begin_serving(self) -> None:
        """From now on they are answered."""
        self.awaited_since = time.monotonic() if self.unanswered is None else None

    def end_serving(self) -> None:
        """They are kept for the next time."""
        self.awaited_since = None

    def take(self, features: Record) -> None:
        """The next question.

        Raises:
            ProtocolError: Sprint cannot ask this, or not now.
        """
        if self.unanswered is not None:
            raise ProtocolError("Sprint sent features while it awaits the scores of others [bad-answer]")
        if self.ready_for_requests:
            raise ProtocolError(
                "Sprint asks for scores in the midst of the trainer's segments, which nobody can answer: "
                "leave its python-feature-scorer out of this configuration [serving]"
            )
        check_features(features)
        self.unanswered = features
        self.asked += 1
        self.awaited_since = None

    def try_claim_answer(self, sender: Producer, rows: int, columns: int, dtype: int) -> Optional[Claim]:
        """Claim a record for the answer; None where there is no room now.

        Then the child, which has nothing else received, has padding to pass, and is late if it does not.

        Args:
            sender: the ring to the child.
            rows, columns: of the scores (time,label), or of the report of an error.
            dtype: the ring's number for it.

        Raises:
            SegmentTooLargeError: it can never fit.
            BufferError: there is no room until the user sends, aborts or deletes what is held.
            ProtocolError: the child has written what it must not.
        """
        if self.unanswered is None:
            raise UsageError("Sprint awaits no scores [serving]")
        claim = sender.claim(lib.SHMB_SCORES, rows, columns, sequence=self.unanswered.sequence, dtype=dtype)
        if claim is None and self.awaited_since is None:
            self.awaited_since = time.monotonic()
        return claim

    def answer(self, claim: Claim, status: int = lib.SHMB_ANSWERED) -> None:
        """Send what was claimed for the answer."""
        question = self.unanswered
        try:
            self.unanswered = None
            claim.commit(status)
        except BaseException:  # such as Ctrl-C, which may come just before or just behind the commit itself
            with contextlib.suppress(UsageError):  # it is committed
                claim.abort()
                self.unanswered = question
            raise
        self.awaited_since = time.monotonic()
