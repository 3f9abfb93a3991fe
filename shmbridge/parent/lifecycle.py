"""The life of a pool: its lock, its state, and its parts from start to close."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from typing import Optional

from ..errors import ClosedError, ResourceError, UsageError
from . import fork_safety, stats_socket
from .answer_check import AnswerCheck
from .arguments import KnownLabels
from .background import Background
from .call_lock import CallLock
from .normalization import NormalizationCheck
from .options import Options
from .request_queue import RequestQueue
from .scheduler import Scheduler
from .statistics import Counters, PoolStatistics
from .supervisor import Supervisor, stop_at_exit
from .uninterrupted import start_thread, uninterrupted
from .watcher import Watcher, in_watcher_thread

_log = logging.getLogger("shmbridge")


class PoolState(enum.Enum):
    """The life of a pool. SERVING: serve_scores is running. CLOSING: a running call must end."""

    STARTING = "starting"
    OPEN = "open"
    SERVING = "serving scores"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "forked"


OPEN = PoolState.OPEN


class Lifecycle:
    """The parts of a pool, and whether it can be used. It does not refer to the user's pool object.

    Not thread-safe by itself: hold `lock` from the first call to the last of an operation.

    Args:
        options: the pool's.

    Attributes:
        options: the pool's.
        may_retry: whether a segment may be sent to another child after a death.
        lock: held by the call that works.
        background: works on submitted batches.
        state: see PoolState.
        scheduler: has the children answer requests.
        last_num_labels: of the last batch; None before.
        normalization: checks the posteriors.
        statistics: the running counters; `stats` returns all.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.may_retry = options.max_restarts > 0
        self.state = PoolState.STARTING
        self.last_num_labels: Optional[int] = None
        self.statistics = Counters()
        self.normalization = NormalizationCheck(options.unnormalized_posteriors)
        self._owner_pid: Optional[int] = None
        self._created = time.monotonic()
        self._is_started = False
        self._ended: Optional[float] = None
        self._ending = threading.Lock()
        self._watcher = Watcher()
        self.lock = CallLock(self._watcher.poke)
        self.background = Background(options.max_batches_in_flight, self._watcher.poke)
        self._supervisor = Supervisor(options, self._watcher, AnswerCheck(options, self.statistics))
        queue = RequestQueue(options.max_restarts, options.skip_fatal_segments)
        self.scheduler = Scheduler(self._watcher, self._supervisor, queue, self.statistics)
        fork_safety.register(self)

    def start(self) -> None:
        """Start the children, and wait until they are ready.

        Raises:
            OptionError, ResourceError: as Child.
            PeerGoneError, ProtocolError, BridgeTimeoutError: a child did not become ready.
        """
        with stop_at_exit(self.interrupt):
            try:
                self._watcher.start()
                uninterrupted(self._serve_stats)
                self._supervisor.start_all()
                self.scheduler.await_ready(self._supervisor.slots)
                self.state, self._is_started = OPEN, True
                self.check_not_closed()  # the interpreter may have come to its end just now
            except BaseException:
                self._supervisor.kill_all()
                self.close()
                raise

    def _serve_stats(self) -> None:
        executable = " ".join(self.options.command_line.command)
        stats_socket.serve_stats(self._watcher, executable, self.stats)

    @property
    def is_closed(self) -> bool:
        """Whether the pool was closed, or is about to be."""
        return self.scheduler.interrupted

    def check_open(self) -> None:
        """Raise unless the pool can be used now.

        Raises:
            UsageError: this process is a fork.
            ClosedError: the pool was closed.
        """
        if self.state is OPEN:
            return
        self.check_not_forked()
        raise ClosedError("the pool was closed [closed]")

    def check_not_closed(self) -> None:
        """Raise ClosedError if the pool was closed."""
        if self.is_closed:
            raise ClosedError("the pool was closed [closed]")

    def check_not_forked(self) -> None:
        """Raise UsageError if this process is a fork of the one that owns the pool."""
        if self.state is PoolState.FORKED:
            raise UsageError(
                f"this pool belongs to process {self._owner_pid}, of which this one is a fork; create a pool "
                "in each process [forked]"
            )

    def check_can_wait(self) -> None:
        """Raise UsageError or ClosedError if no answer can come in this state."""
        if self.state is not OPEN:
            self.check_not_forked()
            self.check_not_closed()

    def known_labels(self) -> KnownLabels:
        """Return what is known of the number of labels."""
        of_sprint = None
        for child in self.scheduler.children:
            of_sprint = of_sprint or child.num_labels
        return of_sprint, self.options.num_labels, self.last_num_labels

    def stats(self) -> PoolStatistics:
        """Return what has crossed the bridge. Takes no lock: may be called from any thread.

        Raises:
            UsageError: this process is a fork.
        """
        self.check_not_forked()
        children = self._supervisor.stats()
        return PoolStatistics(
            seconds=(self._ended or time.monotonic()) - self._created,
            wait_seconds=self._watcher.doorbell.waited - self.scheduler.startup_wait_seconds,
            restarts=sum(child.restarts for child in children),
            children=children,
            **vars(self.statistics),
        )

    def interrupt(self) -> None:
        """End the call that another thread is in. Does not take the lock, which that call holds."""
        if self.state in (PoolState.STARTING, OPEN, PoolState.SERVING):
            self.state = PoolState.CLOSING
            self.scheduler.interrupt()

    def close(self) -> None:
        """End the children and the watcher. Does nothing in a fork.

        May be called again, also to complete a call that a signal handler interrupted.
        """
        outside_watcher(self._close)

    def _close(self) -> None:
        if self.state in (PoolState.CLOSED, PoolState.FORKED):
            return
        self.state = PoolState.CLOSING
        self.scheduler.interrupt()
        self.background.join()
        try:
            self._supervisor.close()
        finally:
            try:
                uninterrupted(self._end)
            except ResourceError:  # no thread is left
                self._end()
        self._ended = time.monotonic()
        if self._is_started:
            _log.info("pool closed: %s", self.stats())

    def _end(self) -> None:
        with self._ending:
            if self.state is not PoolState.CLOSED:
                self._supervisor.kill_all()  # Ctrl-C may have come while Sprint was ending
                self._supervisor.close()
                self.scheduler.release_memory()
                self._watcher.close()
                self.scheduler.queue.fail_all(ClosedError("the pool was closed [closed]"))
                self.state = PoolState.CLOSED

    def after_fork_in_child(self, owner_pid: int) -> None:
        """Leave everything to the parent: called in a fork of the trainer."""
        self.lock = CallLock(self._watcher.poke)  # a thread that the fork did not copy may hold the old one
        # The fork did not copy its thread.
        self.background = Background(self.options.max_batches_in_flight, self._watcher.poke)
        if self.is_closed:
            self.state = PoolState.CLOSED
        else:
            self.state, self._owner_pid = PoolState.FORKED, owner_pid
        self._supervisor.disown()


def outside_watcher(close: Callable[[], None]) -> None:
    """Call `close`; in another thread if this is a watcher's, which the end of a child must not wait for.

    The watcher's thread comes here from a logging handler, or if a garbage collection in it finds a pool.
    """
    if not in_watcher_thread():
        close()
        return

    def close_here() -> None:
        with stop_at_exit(lambda: None):  # the interpreter does not end meanwhile
            close()

    start_thread(close_here)
