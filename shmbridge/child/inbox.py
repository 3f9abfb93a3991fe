"""The child's queue of requests."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Union

from .._native import lib
from ..errors import PeerGoneError, ProtocolError
from ..ring import Record
from .link import ParentLink
from .request import AutomatonRequest, LocalSegment, ParentSegment, SegmentRequest

_POSTERIORS = lib.SHMB_POSTERIORS  # A module global, because the path of each segment uses it.


class Inbox:
    """Requests from the parent and from other threads of this process, in the order of their arrival.

    Thread-safety: any thread may call `put`; one thread calls `take`.

    Args:
        link: the connection to the parent.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._receive = link.channel.receiver.receive
        self._local: deque[LocalSegment] = deque()
        self._ready_sent = False

    def put(self, segment: LocalSegment) -> None:
        """Add a request from another thread of this process."""
        self._local.append(segment)
        self._link.channel.doorbell.poke()
        if self._link.ended:
            self._fail_local()

    def take(self) -> Union[SegmentRequest, AutomatonRequest, None]:
        """Wait for the next request and return it; None if the parent ended the connection.

        Raises:
            ProtocolError: the parent sent a record that the protocol does not allow.
        """
        link = self._link
        if not self._ready_sent:
            self._ready_sent = True
            link.send("ready_for_requests")
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
        """Fail the requests from other threads, so that these do not wait forever."""
        while self._local:
            with contextlib.suppress(IndexError):  # Another thread may take the last one in between.
                segment = self._local.popleft()
                segment.fail(
                    PeerGoneError(
                        f"the parent ended the connection before segment {segment.name!r} was answered"
                        " [parent-gone]"
                    )
                )

    def _to_request(self, record: Record) -> Union[SegmentRequest, AutomatonRequest]:
        try:
            name = record.name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(
                f"the parent sent a segment name that is not UTF-8: {error} [bad-message]"
            ) from None
        if record.kind == _POSTERIORS:
            return ParentSegment(self._link, name, record)
        if record.kind == lib.SHMB_AUTOMATON_REQUEST:
            return AutomatonRequest(self._link, name, record.sequence)
        raise ProtocolError(f"the parent sent an unexpected record of kind {record.kind} [bad-message]")
