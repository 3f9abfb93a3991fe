"""Assign requests to children, deliver their answers, and block until something happens.

`run_until` is the only loop that waits for the children.
"""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from ..doorbell import WaitList
from ..errors import (
    BridgeTimeoutError,
    ClosedError,
    PeerGoneError,
    ProtocolError,
    ShmbridgeError,
    without_traceback,
)
from ..ring import RingEnd
from .batch import Batch
from .child import Child
from .child_state import ChildState
from .placement import free_child, least_loaded
from .request import Request, RequestState
from .request_queue import RequestQueue
from .statistics import Counters
from .supervisor import NOTICE_SECONDS, Slot, Supervisor
from .waits import BatchAnswers, Ready, Wait, check_no_open_claim
from .watcher import Watcher, check_can_wait

if TYPE_CHECKING:
    from .in_place_request import InPlaceRequest

_log = logging.getLogger("shmbridge")

# Global names cost less on the hot path.
_DEAD, _QUEUED = ChildState.DEAD, RequestState.QUEUED


class Scheduler:
    """The queue of requests, and the loop that has the children answer them.

    Not thread-safe, apart from `interrupt`: the pool serialises.

    Args:
        watcher: the pool's.
        supervisor: the pool's.
        queue: empty.
        statistics: the pool's running counters.

    Attributes:
        queue: the requests that wait for a child.
        children: the supervisor's.
        interrupted: the pool is closing; a call that waits raises ClosedError.
        unclaimed: the answered requests whose result() was not called.
        startup_wait_seconds: spent waiting for children to start, not for answers.
    """

    def __init__(
        self, watcher: Watcher, supervisor: Supervisor, queue: RequestQueue, statistics: Counters
    ) -> None:
        self.queue = queue
        self.children = supervisor.children
        self.interrupted = False
        self.unclaimed: weakref.WeakSet[InPlaceRequest] = weakref.WeakSet()
        self.startup_wait_seconds = 0.0
        self._watcher = watcher
        self._supervisor = supervisor
        self._statistics = statistics
        self._receivers: Optional[WaitList] = None  # those of all children; None: to be built

    def interrupt(self) -> None:
        """Have the call that waits raise ClosedError. May be called from any thread."""
        self.interrupted = True
        self._watcher.poke()

    def release_memory(self) -> None:
        """Drop the rings of children that have ended."""
        self._receivers = None

    # --- what calls do

    def run(self, batch: Batch) -> None:
        """Send the requests of a batch in their order, until all are answered or have failed.

        Raises:
            UsageError: a claim is open, behind which Sprint would receive all requests.
            BufferError: the results that the user holds leave no room.
            ClosedError: the pool was closed meanwhile.
        """
        try:
            check_no_open_claim(self.children)
            self.queue.extend(batch.requests)
            self.run_until(BatchAnswers(batch, self.children))
        except BaseException:
            batch.cancel()
            raise
        finally:
            batch.requests.clear()  # each refers to the batch: the cycle would keep the user's arrays alive

    def await_ready(self, slots: Sequence[Slot]) -> None:
        """Wait until the child in each of these slots, or its replacement, is ready.

        Raises:
            PeerGoneError, ProtocolError, BridgeTimeoutError: a child ended before.
        """
        doorbell = self._watcher.doorbell
        waited, begin = doorbell.waited, time.monotonic()
        try:
            self.run_until(Ready(slots))
        finally:
            self.startup_wait_seconds += doorbell.waited - waited
            self._statistics.start_seconds += time.monotonic() - begin

    def restart_dead_children(self) -> None:
        """Restart the children that have died, and wait until they are ready.

        Raises:
            OptionError, ResourceError, PeerGoneError, ProtocolError, BridgeTimeoutError: as at first.
        """
        for child in self.children:
            if child.poll_exit():
                self._on_child_exit(child)
                self.restart_dead_children()  # `children` has changed
                return
        if len(self.children) < len(self._supervisor.slots):
            self._receivers = None
            try:
                self.await_ready(self._supervisor.fill_vacancies())
            except (PeerGoneError, ProtocolError, BridgeTimeoutError) as error:
                is_served = any(child.state is ChildState.READY for child in self.children)
                if self.queue.max_restarts == 0 or not is_served:
                    raise
                _log.error("cannot replace the child that ended: %s [peer-gone]", error)

    def least_loaded(self) -> Child:
        """Return the child with the fewest frames in flight or claimed.

        Raises:
            PeerGoneError, ProtocolError, BridgeTimeoutError: no child is alive.
        """
        children = self.children
        if len(children) == 1:
            return children[0]
        if not children:
            raise self._supervisor.first_error()
        return least_loaded(children)

    # --- the loop

    def run_until(self, wait: Wait, timeout: Optional[float] = None) -> None:
        """Deliver answers and send queued requests until the wait is over.

        Raises:
            BridgeTimeoutError: it was not over within `timeout` seconds.
            UsageError, BufferError: it will never be: see waits.
            ClosedError: the pool was closed meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            full: list[Child] = []
            progress = self.poll()
            if self.queue:
                self._dispatch(full)
            if wait.done():
                return
            if progress:
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds [timeout]")
            if self._is_possible(wait):
                full += wait.room_at
                self._sleep(full, deadline)

    def step(self) -> None:
        """Do once what `run_until` repeats, without waiting for an event."""
        for child in list(self.children):
            child.enforce_deadline()
        self.poll()
        with contextlib.suppress(BufferError):  # the next call that waits raises it
            self._dispatch([])

    def poll(self) -> bool:
        """Deliver an answer of each child, and process deaths. Return whether anything happened."""
        progress = False
        for child in self.children:
            if child.poll():
                progress = True
                if child.state is _DEAD:
                    self._on_child_exit(child)
                    break  # `children` has changed
        return progress

    def _dispatch(self, full: list[Child]) -> None:
        """Send the queued requests that free children have room for.

        Args:
            full: receives the children whose rings have no room for their next request.
        """
        while self.queue:
            request = self.queue[0]
            if not self.children:
                self.queue.fail_all(self._supervisor.first_error())
                return
            if request.state is _QUEUED:
                child = free_child(self.children, full)
                if child is None:
                    break
                try:
                    if not self._send(child, request):
                        full.append(child)
                        continue
                except ProtocolError:  # the child was killed for it; the request was not sent
                    self._on_child_exit(child)
                    continue
                except ShmbridgeError as error:
                    request.fail(without_traceback(error))
            if request.state is not _QUEUED:
                self.queue.popleft()

    def _send(self, child: Child, request: Request) -> bool:
        """Send the request. Return False if the child's ring has no room for it."""
        claim = child.try_claim(request.kind, request.rows, request.columns, request.name.encode())
        if claim is None:
            return False
        try:
            request.fill(claim)
        except BaseException:  # the traceback of the error would keep the claim open
            claim.abort()
            raise
        child.send(claim, request)
        request.sent()
        return True

    def _on_child_exit(self, child: Child) -> None:
        """Requeue or fail what a dead child has not answered, then have it replaced."""
        if child.error is not None:
            self.queue.take_back(child.in_flight, child.error, may_retry=not self.interrupted)
        self._receivers = None  # it keeps the dead child's memory mapped
        self._supervisor.replace(child, may_start=not self.interrupted)

    def _is_possible(self, wait: Wait) -> bool:
        """Return whether to block. False: results were copied out to make room, so look again.

        Raises:
            UsageError, BufferError: as Wait.check_possible.
        """
        try:
            wait.check_possible()
        except BufferError:
            spilled = [request.spill() for request in list(self.unclaimed)]
            self.unclaimed.clear()
            if not any(spilled):
                raise
            return False
        return True

    def _receiving_ends(self) -> list[RingEnd]:
        # A child that was killed just now has no channel; its exit is an event of its own.
        return [child.channel.receiver for child in self.children if child.state is not _DEAD]

    def _sleep(self, wanting_room: list[Child], deadline: Optional[float]) -> None:
        """Block until a child has an event, misses its deadline (it is then ended), or has room.

        Args:
            wanting_room: the children that must have room.
            deadline: of the wait, by time.monotonic(); None for no limit.

        Raises:
            ClosedError: the pool was closed meanwhile.
            UsageError: this is a watcher's thread.
        """
        check_can_wait()
        if self._receivers is None:
            self._receivers = WaitList(self._receiving_ends())
        wait_list = self._receivers
        if wanting_room:
            senders = [child.channel.sender for child in wanting_room if child.state is not _DEAD]
            wait_list = WaitList([*self._receiving_ends(), *senders])
        for child in self.children:
            due = child.deadline()
            if due is not None and (deadline is None or due < deadline):
                deadline = due
        timeout = NOTICE_SECONDS
        if deadline is not None:
            timeout = min(timeout, deadline - time.monotonic())
        in_time = self._watcher.doorbell.wait(wait_list, timeout)
        if self.interrupted:
            raise ClosedError("the pool was closed [closed]")
        if not in_time:
            for child in list(self.children):
                child.enforce_deadline()
            self._supervisor.log_long_waits()
