"""The requests that wait for a child, and what happens to those whose child ended."""

from __future__ import annotations

import logging
from collections import deque

from ..errors import ShmbridgeError
from .request import Request, RequestState

_log = logging.getLogger("shmbridge")

_QUEUED = RequestState.QUEUED


class RequestQueue(deque[Request]):
    """Requests, the next one first. A request that is no longer QUEUED is left in its place until it is next.

    Args:
        max_restarts: the user's option.
        skip_fatal: the user's option skip_fatal_segments.
    """

    def __init__(self, max_restarts: int, skip_fatal: bool) -> None:
        super().__init__()
        self.max_restarts = max_restarts
        self._skip_fatal = skip_fatal

    def take_back(
        self, unanswered: deque[tuple[int, Request]], error: ShmbridgeError, *, may_retry: bool
    ) -> None:
        """Requeue or fail what a dead child has not answered.

        If Ctrl-C interrupts this, it may be called again.

        Args:
            unanswered: the requests, oldest first, with their sequence numbers; emptied. The child died at
                the first.
            error: why it ended.
            may_retry: as in _retry_or_fail.
        """
        for index, (_, request) in enumerate(unanswered):
            if request.state is RequestState.IN_FLIGHT:
                self._retry_or_fail(request, error, died_at=index == 0, may_retry=may_retry)
        self.extendleft(request for _, request in reversed(unanswered) if request.state is _QUEUED)
        unanswered.clear()

    def _retry_or_fail(
        self, request: Request, error: ShmbridgeError, *, died_at: bool, may_retry: bool
    ) -> None:
        """Decide about a request whose child has ended.

        Args:
            request: the request; its state is QUEUED afterwards, or its end.
            error: why the child ended.
            died_at: whether the child ended while it worked on this request.
            may_retry: whether a retry is possible at all.
        """
        request.retries += died_at
        if self.max_restarts == 0 or not may_retry:
            request.fail(error)
        elif request.retries <= self.max_restarts:
            request.state = _QUEUED
        elif self._skip_fatal:
            _log.warning("segment %r is skipped: Sprint ended at it each time [skipped-fatal]", request.name)
            request.skip(error)
        else:
            request.fail(error)

    def fail_all(self, error: ShmbridgeError) -> None:
        """Fail all requests: no child is alive."""
        while self:
            self[0].fail(error)
            self.popleft()
