"""Assign requests to children, deliver their answers, and block until something happens.

`run_until` is the one loop that blocks; nothing else in the parent does.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Optional

from ..doorbell import WaitList
from ..errors import (
    BridgeTimeoutError,
    ClosedError,
    ProtocolError,
    ShmbridgeError,
    UsageError,
    without_traceback,
)
from ..ring import RingEnd
from . import fork_safety, stats_socket
from .batch import Batch
from .child import Child, ChildState
from .copying import use_second_thread
from .options import Options
from .request import Request, RequestState
from .statistics import Counters, PoolStatistics
from .supervisor import Slot, Supervisor, stop_at_exit
from .waits import Answer, BatchAnswers, Ready, Wait
from .watcher import Watcher

if TYPE_CHECKING:
    from .in_place import InPlaceRequest

_log = logging.getLogger("shmbridge")

# One segment that Sprint computes, and the next one in its ring. More would bind segments to a child before
# it is known which child is free first.
_MAX_IN_FLIGHT = 2
_NOTICE_SECONDS = 10.0  # how often a long wait is logged
_SLOW_FACTOR = 10  # a segment is slow if it takes this many times the longest before it


class PoolState(enum.Enum):
    """The life of a pool. SERVING: serve_scores is running. CLOSING: a running call must end."""

    STARTING = "starting"
    OPEN = "open"
    SERVING = "serving scores"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "forked"


_OPEN = PoolState.OPEN
_DEAD, _QUEUED = ChildState.DEAD, RequestState.QUEUED
_IS_CLOSED = (PoolState.CLOSING, PoolState.CLOSED)


class Scheduler:
    """The queue of requests, and the children that answer them.

    Not thread-safe by itself: hold `lock` from the first call to the last of an operation.

    Args:
        options: the pool's.

    Raises:
        OptionError, ResourceError: as Child.
        PeerGoneError, ProtocolError, BridgeTimeoutError: a child did not become ready.

    Attributes:
        lock: held by the call that works.
        state: see PoolState.
        statistics: the running counters; `stats` returns all.
        children: the supervisor's.
        queue: the requests that wait for a child.
        max_restarts: the user's option.
        unclaimed: the answered requests whose results nobody has asked for.
    """

    def __init__(self, options: Options) -> None:
        self.lock = threading.RLock()
        self.state = PoolState.STARTING
        self.statistics = Counters()
        self.max_restarts = options.max_restarts
        self.unclaimed: weakref.WeakSet[InPlaceRequest] = weakref.WeakSet()
        self._options = options
        self.queue: deque[Request] = deque()
        self._receivers: Optional[WaitList] = None  # those of all children; None: to be built
        self._next_notice = 0.0
        self._owner_pid: Optional[int] = None
        self._created = time.monotonic()
        self._opened: Optional[float] = None
        self._ended: Optional[float] = None
        self._startup_wait_seconds = 0.0  # spent waiting for children to start, not for answers
        self._watcher = Watcher()
        self._supervisor = Supervisor(options, self._watcher)
        self.children = self._supervisor.children
        fork_safety.register(self)
        with stop_at_exit(self.interrupt):
            self._start()

    def _start(self) -> None:
        try:
            executable = " ".join(self._options.command()[: 1 + self._options.leading_arguments])
            stats_socket.serve_stats(self._watcher, executable, self.stats)
            self._supervisor.start_all()
            self._await_ready(self._supervisor.slots)
            self.check_not_closed()  # the interpreter may have come to its end just now
            self.state, self._opened = _OPEN, time.monotonic()
        except BaseException:
            self._supervisor.kill_all()
            self.close()
            raise

    # --- state

    def check_open(self) -> None:
        """Raise unless the pool can be used now.

        Raises:
            UsageError: this process is a fork, or serve_scores is running.
            ClosedError: the pool was closed.
        """
        if self.state is _OPEN:
            return
        self.check_not_forked()
        if self.state is PoolState.SERVING:
            raise UsageError(
                "serve_scores is running, and its score function called the same pool; the pool's children "
                "recognise: use another pool for anything else [serving]"
            )
        raise ClosedError("the pool was closed [closed]")

    def check_not_closed(self) -> None:
        """Raise ClosedError if the pool was closed."""
        if self.state in _IS_CLOSED:
            raise ClosedError("the pool was closed [closed]")

    def check_not_forked(self) -> None:
        """Raise UsageError if this process is a fork of the one that owns the pool."""
        if self.state is PoolState.FORKED:
            raise UsageError(
                f"this pool belongs to process {self._owner_pid}, of which this one is a fork; create a pool "
                "in each process [forked]"
            )

    def interrupt(self) -> None:
        """End the call that another thread is in. Does not take the lock, which that call holds."""
        if self.state in (PoolState.STARTING, _OPEN, PoolState.SERVING):
            self.state = PoolState.CLOSING
            self._watcher.doorbell.poke()

    def close(self) -> None:
        """End the children and the watcher. May be called again; does nothing in a fork."""
        if self.state in (PoolState.CLOSED, PoolState.FORKED):
            return
        self.state = PoolState.CLOSED
        try:
            self._supervisor.close()
        finally:
            self._watcher.close()
        self._receivers = None
        self._ended = time.monotonic()
        if self._opened is not None:
            _log.info("pool closed: %s", self.stats())

    def after_fork_in_child(self, owner_pid: int) -> None:
        """Leave everything to the parent: called in a fork of the trainer."""
        self.lock = threading.RLock()  # a thread that the fork did not copy may hold the old one
        if self.state is not PoolState.CLOSED:
            self.state, self._owner_pid = PoolState.FORKED, owner_pid
        self._supervisor.disown()

    def stats(self) -> PoolStatistics:
        """Return what has crossed the bridge. Takes no lock: may be called from any thread.

        Raises:
            UsageError: this process is a fork.
        """
        self.check_not_forked()
        children = self._supervisor.stats()
        return PoolStatistics(
            seconds=(self._ended or time.monotonic()) - self._created,
            wait_seconds=self._watcher.doorbell.waited - self._startup_wait_seconds,
            restarts=sum(child.restarts for child in children),
            children=children,
            **vars(self.statistics),
        )

    # --- what calls do

    def run(self, batch: Batch) -> None:
        """Send the requests of a batch in their order, until all are answered or have failed.

        Raises:
            UsageError: a claim is open, behind which Sprint would receive all requests.
            BufferError: the results that the user holds leave no room.
            ClosedError: the pool was closed meanwhile.
        """
        try:
            self.restart_dead_children()
            for child in self.children:
                child.check_no_open_claim()
            self.queue.extend(batch.requests)
            self.run_until(BatchAnswers(batch, self.children))
        except BaseException:
            batch.cancel()
            raise
        finally:
            batch.requests.clear()  # each refers to the batch: the cycle would keep the user's arrays alive

    def await_answer(self, request: Request, timeout: Optional[float]) -> None:
        """Wait until the request is answered or has failed.

        Raises:
            BridgeTimeoutError: it was not within `timeout` seconds.
            UsageError, BufferError: it never will be: see waits.Answer.
            ClosedError: the pool was closed.
        """
        self.check_not_closed()
        self.run_until(Answer(request, self.children, self.queue), timeout)

    def restart_dead_children(self) -> None:
        """Restart the children that have died, and wait until they are ready.

        Raises:
            OptionError, ResourceError, PeerGoneError, ProtocolError, BridgeTimeoutError: as at first.
        """
        dead = [child for child in self.children if child.poll_exit()]
        for child in dead:
            self._on_child_exit(child)
        if len(self.children) < len(self._supervisor.slots):
            self._receivers = None
            self._await_ready(self._supervisor.fill_vacancies())

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
        return min(children, key=_load)

    def second_thread_is_free(self) -> bool:
        """Return whether a core is idle that a second thread may copy on."""
        busy = 0
        for child in self.children:
            if child.in_flight:
                busy += 1
        return use_second_thread(busy)

    # --- the loop

    def run_until(self, wait: Wait, timeout: Optional[float] = None) -> None:
        """Deliver answers and send queued requests until the wait is over.

        Raises:
            BridgeTimeoutError: it was not over within `timeout` seconds.
            UsageError, BufferError: it will never be: see waits.
            ClosedError: the pool was closed meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not wait.done():
            progress = self.poll()
            full: list[Child] = []
            if self.queue:
                progress = self._dispatch(full) or progress
            if progress:
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds [timeout]")
            if self._is_possible(wait):
                self._sleep([*full, *wait.room_at], deadline)

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

    def poll_if_open(self) -> None:
        """Deliver answers, unless the pool was closed."""
        if self.state is _OPEN:
            self.poll()

    def _dispatch(self, full: list[Child]) -> bool:
        """Send the queued requests that free children have room for. Return whether the queue has changed.

        Args:
            full: receives the children whose rings have no room for their next request.
        """
        changed = False
        while self.queue:
            request = self.queue[0]
            if not self.children:
                self._fail_queue()
                return True
            if request.state is _QUEUED:
                child = self._free_child(full)
                if child is None:
                    break
                try:
                    if not self._send(child, request):
                        full.append(child)
                        continue
                except ProtocolError as error:  # the child was killed for it; poll() replaces it
                    self._retry_or_fail(request, without_traceback(error), died_at=True)
                except ShmbridgeError as error:
                    request.fail(without_traceback(error))
            changed = True
            if request.state is not _QUEUED:
                self.queue.popleft()
        return changed

    def _free_child(self, full: list[Child]) -> Optional[Child]:
        """Return the child that is to receive the next request; None if none is free."""
        children = self.children
        # Behind an open claim, a request would wait for the user.
        unblocked = [child for child in children if child.oldest_open_claim() is None] or children
        free = [
            child
            for child in unblocked
            if child.state is ChildState.READY and len(child.in_flight) < _MAX_IN_FLIGHT and child not in full
        ]
        return min(free, key=lambda child: (child.load, len(child.in_flight))) if free else None

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
        """Requeue or fail what a dead child has not answered, then have it replaced.

        Its oldest request is the one at which it died. If Ctrl-C interrupts this, the next poll calls it again.
        """
        unanswered = child.in_flight
        had_requests = bool(unanswered)
        for index, (_, request) in enumerate(unanswered):
            if child.error is not None:
                self._retry_or_fail(request, child.error, died_at=index == 0)
        self.queue.extendleft(request for _, request in reversed(unanswered) if request.state is _QUEUED)
        unanswered.clear()
        self._receivers = None  # it keeps the dead child's memory mapped
        self._supervisor.replace(child, had_requests and self.state not in _IS_CLOSED)

    def _retry_or_fail(self, request: Request, error: ShmbridgeError, died_at: bool) -> None:
        """Decide about a request whose child has ended; `died_at`: the child ended while it worked on it."""
        if not request.is_open:  # cancelled
            return
        request.retries += died_at
        if self.max_restarts == 0 or self.state in _IS_CLOSED:
            request.fail(error)
        elif request.retries <= self.max_restarts:
            request.state = _QUEUED
        elif self._options.skip_fatal_segments:
            _log.warning("segment %r is skipped: Sprint ended at it each time [skipped-fatal]", request.name)
            request.skip(error)
        else:
            request.fail(error)

    def _fail_queue(self) -> None:
        """Fail all queued requests: no child is alive."""
        error = self._supervisor.first_error()
        while self.queue:
            self.queue[0].fail(error)
            self.queue.popleft()

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

    def _sleep(self, wanting_room: list[Child], deadline: Optional[float]) -> None:
        """Block until a child has an event, misses its deadline (it is then ended), or has room.

        Args:
            wanting_room: the children that must have room.
            deadline: of the wait, by time.monotonic(); None for no limit.

        Raises:
            ClosedError: the pool was closed meanwhile.
        """
        if self._receivers is None:
            self._receivers = WaitList([child.channel.receiver for child in self.children])
        wait_list = self._receivers
        if wanting_room:
            ends: list[RingEnd] = [child.channel.receiver for child in self.children]
            wait_list = WaitList([*ends, *(child.channel.sender for child in wanting_room)])
        deadlines = [child.deadline for child in self.children if child.deadline is not None]
        if deadline is not None:
            deadlines.append(deadline)
        timeout = _NOTICE_SECONDS
        if deadlines:
            timeout = min(timeout, min(deadlines) - time.monotonic())
        in_time = self._watcher.doorbell.wait(wait_list, timeout)
        if self.state in _IS_CLOSED:
            raise ClosedError("the pool was closed [closed]")
        if not in_time:
            for child in list(self.children):
                child.enforce_deadline()
            self._log_long_waits()

    def _log_long_waits(self) -> None:
        """Log every 10 s which children are starting, and which work on an unusually slow segment."""
        now = time.monotonic()
        if now < self._next_notice:
            return
        self._next_notice = now + _NOTICE_SECONDS / 2
        for child in self.children:
            seconds = now - child.busy_since
            if child.hello is None:
                _log.info("Sprint (pid %d) has been starting for %.0f s", child.pid, seconds)
            elif child.in_flight and seconds >= _SLOW_FACTOR * max(child.longest, 1.0):
                _log.warning(
                    "Sprint (pid %d) has worked on segment %r for %.0f s; its slowest so far took %.1f s "
                    "[slow-segment]",
                    child.pid,
                    child.in_flight[0][1].name,
                    seconds,
                    child.longest,
                )

    def _await_ready(self, slots: list[Slot]) -> None:
        waited, begin = self._watcher.doorbell.waited, time.monotonic()
        try:
            self.run_until(Ready(slots))
        finally:
            self._startup_wait_seconds += self._watcher.doorbell.waited - waited
            self.statistics.start_seconds += time.monotonic() - begin


def _load(child: Child) -> tuple[bool, int, int]:
    if child.state is _DEAD:  # and not replaced yet
        return (True, 0, 0)
    return (False, child.load, child.channel.sender.used)
