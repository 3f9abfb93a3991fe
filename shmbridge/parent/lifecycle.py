"""The life of a pool: its lock, its state, and its parts from start to close."""

from __future__ import annotations

import enum
import logging
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Optional, TypeVar

from ..errors import ClosedError, UsageError
from ..memory import Memory
from . import fork_safety, stats_socket
from .answer_check import AnswerCheck
from .arguments import KnownLabels
from .call_lock import CallLock
from .normalization import NormalizationCheck
from .options import Options
from .request_queue import RequestQueue
from .scheduler import Scheduler
from .statistics import Counters, PoolStatistics
from .supervisor import Supervisor, stop_at_exit
from .uninterrupted import start_thread
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

    Raises:
        OptionError, ResourceError: as Child.
        PeerGoneError, ProtocolError, BridgeTimeoutError: a child did not become ready.

    Attributes:
        options: the pool's.
        may_retry: whether a segment may be sent to another child after a death.
        lock: held by the call that works.
        state: see PoolState.
        scheduler: has the children answer requests.
        last_num_labels: of the last batch; None before.
        normalization: checks the posteriors.
        statistics: the running counters; `stats` returns all.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.may_retry = options.max_restarts > 0
        self.lock = CallLock()
        self.state = PoolState.STARTING
        self.last_num_labels: Optional[int] = None
        self.statistics = Counters()
        self.normalization = NormalizationCheck(options.unnormalized_posteriors)
        self._owner_pid: Optional[int] = None
        self._created = time.monotonic()
        self._is_started = False
        self._ended: Optional[float] = None
        self._watcher = Watcher()
        self._supervisor = Supervisor(options, self._watcher, AnswerCheck(options, self.statistics))
        queue = RequestQueue(options.max_restarts, options.skip_fatal_segments)
        self.scheduler = Scheduler(self._watcher, self._supervisor, queue, self.statistics)
        fork_safety.register(self)
        with stop_at_exit(self.interrupt):
            self._start(options)

    def _start(self, options: Options) -> None:
        try:
            self._watcher.start()
            executable = " ".join(options.command_line.command)
            stats_socket.serve_stats(self._watcher, executable, self.stats)
            self._supervisor.start_all()
            self.scheduler.await_ready(self._supervisor.slots)
            self.state, self._is_started = OPEN, True
            self.check_not_closed()  # the interpreter may have come to its end just now
        except BaseException:
            self._supervisor.kill_all()
            self.close()
            raise

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
        """End the children and the watcher. May be called again; does nothing in a fork."""
        outside_watcher(self._close)

    def _close(self) -> None:
        if self.state in (PoolState.CLOSED, PoolState.FORKED):
            return
        self.state = PoolState.CLOSED
        self.scheduler.interrupted = True
        try:
            self._supervisor.close()
        finally:
            self._watcher.close()
            self.scheduler.queue.fail_all(ClosedError("the pool was closed [closed]"))
        self._ended = time.monotonic()
        if self._is_started:
            _log.info("pool closed: %s", self.stats())

    def after_fork_in_child(self, owner_pid: int) -> None:
        """Leave everything to the parent: called in a fork of the trainer."""
        self.lock = CallLock()  # a thread that the fork did not copy may hold the old one
        if self.state is not PoolState.CLOSED:
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


class OwnedPool:
    """The end of a pool: what happens when it is closed, collected, copied or forked.

    Args:
        pool: its parts, which must not refer to this object.
    """

    def __init__(self, pool: Lifecycle) -> None:
        self._pool = pool
        # Runs at close, when the pool is collected, or at the interpreter's exit, whichever comes first.
        self._close = weakref.finalize(self, pool.close)

    def stats(self) -> PoolStatistics:
        """Return what has crossed the bridge so far, and the state of each child.

        Never blocks: if another thread is in a call, the figures are those of this moment. May be called
        after `close`, which also logs them.

        Raises:
            UsageError: this process is a fork of the one that owns the pool.
        """
        return self._pool.stats()

    @property
    def num_instances(self) -> int:
        """The number of children."""
        return self._pool.options.num_instances

    @property
    def memories(self) -> list[Memory]:
        """The shared memory of each child that is alive, to register it with a device."""
        with self._pool.lock:
            self._pool.check_open()
            return [child.channel.memory for child in self._pool.scheduler.children if child.error is None]

    def close(self) -> None:
        """End the children and free all resources. Arrays that are held stay valid. May be called again.

        A call that another thread is in raises ClosedError there. In a logging handler that Sprint's output
        reaches, this returns before the pool is closed.

        Raises:
            UsageError: this is a call within a call of the same thread; that one raises ClosedError, and the
                next `close` ends the children.
        """
        self._pool.interrupt()  # the other thread holds the lock while it waits for Sprint
        outside_watcher(self._close_locked)

    def _close_locked(self) -> None:
        with self._pool.lock:
            if self._pool.state is not PoolState.FORKED:
                self._close()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._pool.is_closed

    def __enter__(self: _Pool) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self: _Pool) -> _Pool:
        return self

    def __deepcopy__(self: _Pool, _memo: dict[int, Any]) -> _Pool:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a pool cannot be pickled: its children belong to this process; create a pool in each process, "
            "and leave it out of what is saved, as torch's state_dict does [not-picklable]"
        )

    def __repr__(self) -> str:
        options = self._pool.options
        state = "closed" if self.closed else f"{options.num_instances} children"
        return f"<{type(self).__name__} {options.sprint_exec_path!r}, {state}>"


_Pool = TypeVar("_Pool", bound=OwnedPool)
