"""What is asked of Sprint, in the order in which it comes."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Union

from .._native import lib
from ..errors import PeerGoneError, ProtocolError
from ..ring import Record
from .link import ParentLink
from .request import AutomatonRequest, LocalSegment, ParentSegment, SegmentRequest

_POSTERIORS = lib.SHMB_POSTERIORS  # looked up once: this stands in what runs for each segment


class Inbox:
    """The parent's requests, and those of other threads of this process.

    Thread-safety: any thread may put; one takes.

    Args:
        link: to the parent.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._receive = link.channel.receiver.receive
        self._local: deque[LocalSegment] = deque()
        self._told_parent = False

    def put(self, segment: LocalSegment) -> None:
        """Ask from another thread of this process."""
        self._local.append(segment)
        self._link.channel.doorbell.poke()
        if self._link.ended:
            self._fail_local()

    def take(self) -> Union[SegmentRequest, AutomatonRequest, None]:
        """Wait for what is asked next; None: the parent wants no more, or is gone.

        Raises:
            ProtocolError: the parent sent what it must not.
        """
        link = self._link
        if not self._told_parent:
            self._told_parent = True
            link.send("awaits_requests")
        while not link.ended:
            if self._local:
                return self._local.popleft()
            record = self._receive()
            if record is not None:
                return self._to_request(record)
            link.channel.wait()
        self._fail_local()
        return None

    def _fail_local(self) -> None:
        """The other threads wait for nothing any more."""
        while self._local:
            with contextlib.suppress(IndexError):  # another thread was here between the two lines
                segment = self._local.popleft()
                segment.fail(
                    PeerGoneError(
                        f"the parent has ended the connection before segment {segment.name!r} was done"
                        " [parent-gone]"
                    )
                )

    def _to_request(self, record: Record) -> Union[SegmentRequest, AutomatonRequest]:
        try:
            name = record.name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(
                f"the parent sent a segment name that is no UTF-8: {error} [bad-message]"
            ) from None
        if record.kind == _POSTERIORS:
            return ParentSegment(self._link, name, record)
        if record.kind == lib.SHMB_AUTOMATON_REQUEST:
            return AutomatonRequest(self._link, name, record.sequence)
        raise ProtocolError(
            f"the parent sent a record of kind {record.kind}, which is not for it to send [bad-message]"
        )
