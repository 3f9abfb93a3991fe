"""The private parts of a pool that tests need. No other file of the tests names a private attribute of it.

The functions speak of children, of processes, and of moments in the life of a pool: what these are made of is
known here only.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import shmbridge
from shmbridge import memory as shared_memory
from shmbridge.errors import PeerGoneError
from shmbridge.memory import Memory, create_shared_memory
from shmbridge.parent import (
    child,
    copying,
    in_place,
    launch,
    lifecycle,
    process,
    scheduler,
    scoring,
    spawn,
    supervisor,
)
from shmbridge.parent.automata import AutomatonRequest
from shmbridge.parent.batch import Batch
from shmbridge.parent.statistics import Counters
from shmbridge.ring import Array, Claim

__all__ = [
    "ChildProcess",
    "after_each_spawn",
    "before_each_exit_wait",
    "before_each_memory_reservation",
    "before_each_result",
    "before_each_score_copy",
    "before_each_sleep",
    "change_control_messages",
    "child_of",
    "children",
    "create_shared_memory",
    "in_place_of_start_wait",
    "is_serving",
    "kill_child",
    "log_long_waits_every",
    "memory_reservation_file",
    "once",
    "poll",
    "poll_after_exits_only",
    "receive_automaton",
    "use_cores",
    "watch_descriptor",
    "wrap_score_claims",
]

Hook = Callable[..., Any]
_PATIENCE = 60.0  # seconds for what takes none


# --- children


class ChildProcess:
    """One Sprint process of a pool. The process that replaces it is another one."""

    def __init__(self, slot_child: child.Child) -> None:
        self._child = slot_child
        self._process = slot_child._process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has sent its hello."""
        return self._child.hello is not None

    @property
    def is_running(self) -> bool:
        """Whether its exit status was not collected yet."""
        return self._process._popen.returncode is None

    @property
    def has_exited(self) -> bool:
        """Whether it has ended, and its last output and messages were read."""
        return self._process.exited

    @property
    def is_dead(self) -> bool:
        """Whether the pool treats it as dead."""
        return self._child.state is child.ChildState.DEAD

    @property
    def is_timed(self) -> bool:
        """Whether a timeout runs for its hello, its next answer or its next request for scores."""
        return self._child.clock.deadline is not None

    @property
    def longest(self) -> float:
        """The seconds that its slowest answer took."""
        return self._child.clock.longest

    @longest.setter
    def longest(self, seconds: float) -> None:
        self._child.clock.longest = seconds

    @property
    def awaits_scores(self) -> bool:
        """Whether it has sent features whose scores it has not received."""
        return self._child.score_requests.features is not None

    @property
    def memory(self) -> Memory:
        """The memory that it shares with the trainer."""
        return self._child.channel.memory

    def kill(self) -> None:
        """Kill the process and its group, as the pool does. It may have ended before."""
        self._process.kill()

    def wait_for_exit(self) -> None:
        """Wait until it has ended and its last output and messages were read."""
        assert self._process.join(_PATIENCE), f"the child {self.pid} still runs"

    def notice_death(self) -> bool:
        """Have the pool take news of the process. Returns whether it now treats it as dead."""
        return self._child.poll_exit()

    def death(self) -> PeerGoneError:
        """The error that says how the process has ended."""
        return self._process.exit_error()

    def send_raw_control_bytes(self, data: bytes) -> None:
        """Write to its control pipe, as the trainer's process may."""
        os.write(self._process._p2c_fd, data)

    def claim_record(self, kind: int, rows: int, columns: int, *, sequence: int, dtype: int) -> Claim:
        """Claim any record in the ring to the child, as the trainer's process may."""
        claim = self._child.channel.sender.claim(kind, rows, columns, sequence=sequence, dtype=dtype)
        assert claim is not None
        return claim


def children(pool: shmbridge.SprintInstancePool) -> list[ChildProcess]:
    """The newest process of each child, in the order of `pool.stats().children`."""
    return [ChildProcess(slot.child) for slot in pool._pool._supervisor.slots]


def kill_child(pool: shmbridge.SprintInstancePool, index: int = 0) -> None:
    """Kill a child with SIGKILL, and wait until its last output and messages were read."""
    victim = children(pool)[index]
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait_for_exit()


def child_of(claim: in_place.SegmentClaim) -> int:
    """The id of the process in whose ring an open claim lies."""
    assert claim._child is not None, "the claim was sent or aborted"
    return claim._child.pid


# --- the pool


def poll(pool: shmbridge.SprintInstancePool) -> bool:
    """Have the pool take an answer of each child, and news of it. Returns whether there were any."""
    return pool._pool.scheduler.poll()


def is_serving(pool: shmbridge.SprintInstancePool) -> bool:
    """Whether a thread is in serve_scores."""
    return pool._pool.state is lifecycle.PoolState.SERVING


def watch_descriptor(
    pool: shmbridge.SprintInstancePool, descriptor: int, callback: Callable[[], bool]
) -> None:
    """Call back in the pool's thread when the descriptor is readable. The pool closes it."""
    pool._pool._watcher.watch(descriptor, callback)


# --- moments: a hook is called at each of them until the context manager is left


def once(hook: Hook) -> Hook:
    """A hook that calls `hook` the first time, and nothing later."""
    left = [hook]

    def call(*arguments: Any) -> Any:
        return left.pop()(*arguments) if left else None

    return call


def _before(owner: object, name: str, hook: Hook) -> Any:
    function = getattr(owner, name)

    def hooked(*arguments: Any, **more: Any) -> Any:
        hook()
        return function(*arguments, **more)

    return mock.patch.object(owner, name, hooked)


@contextlib.contextmanager
def before_each_sleep(pool: shmbridge.SprintInstancePool, hook: Callable[[], Any]) -> Iterator[None]:
    """Before a call of the pool sleeps until a child has news."""
    with _before(pool._pool.scheduler, "_sleep", hook):
        yield


@contextlib.contextmanager
def in_place_of_start_wait(hook: Callable[[], Any]) -> Iterator[None]:
    """Where a pool would wait until its children are ready: it does not wait."""

    def call(_self: scheduler.Scheduler, _slots: object) -> None:
        hook()

    with mock.patch.object(scheduler.Scheduler, "await_ready", call):
        yield


@contextlib.contextmanager
def before_each_exit_wait(hook: Callable[[], Any]) -> Iterator[None]:
    """Before a pool waits for a child to exit, which it has asked for."""
    with _before(process.SprintProcess, "join", hook):
        yield


@contextlib.contextmanager
def after_each_spawn(hook: Callable[[int], Any]) -> Iterator[None]:
    """Right behind the start of a child's process, with its id."""
    spawn_process = spawn.spawn

    def hooked(*arguments: Any) -> Any:
        popen = spawn_process(*arguments)
        hook(popen.pid)
        return popen

    with mock.patch.object(process, "spawn", hooked):
        yield


@contextlib.contextmanager
def before_each_memory_reservation(hook: Callable[[], Any]) -> Iterator[None]:
    """Before the memory of a child is reserved."""
    with _before(launch, "create_shared_memory", hook):
        yield


@contextlib.contextmanager
def before_each_result(hook: Callable[[], Any]) -> Iterator[None]:
    """When an answer in place was taken, before it becomes a result."""
    with _before(in_place, "SegmentResult", hook):
        yield


@contextlib.contextmanager
def before_each_score_copy(hook: Callable[[], Any]) -> Iterator[None]:
    """Before scores are copied to Sprint."""
    with _before(scoring, "copy_rejecting_nan", hook):
        yield


# --- changes, until the context manager is left


@contextlib.contextmanager
def poll_after_exits_only() -> Iterator[None]:
    """A pool polls its children only when all have exited, as if it got no core before."""
    poll_now = scheduler.Scheduler.poll

    def late(self: scheduler.Scheduler) -> bool:
        for each in self.children:
            ChildProcess(each).wait_for_exit()
        return poll_now(self)

    with mock.patch.object(scheduler.Scheduler, "poll", late):
        yield


@contextlib.contextmanager
def log_long_waits_every(seconds: float, *, slow_after: float = 10.0) -> Iterator[None]:
    """Log this often what a pool waits for. A segment is slow after at least `slow_after` seconds."""
    with (
        mock.patch.object(scheduler, "NOTICE_SECONDS", seconds),
        mock.patch.object(supervisor, "NOTICE_SECONDS", seconds),
        mock.patch.object(supervisor, "_SLOW_FACTOR", slow_after),
    ):
        yield


@contextlib.contextmanager
def change_control_messages(**fields: object) -> Iterator[None]:
    """These fields stand in each control message to a child."""
    send = process.SprintProcess.send

    def changed(self: process.SprintProcess, kind: str, **given: object) -> None:
        send(self, kind, **{**given, **fields})

    with mock.patch.object(process.SprintProcess, "send", changed):
        yield


@contextlib.contextmanager
def wrap_score_claims(wrap: Callable[[Any], Any]) -> Iterator[None]:
    """`wrap` returns what is used in the place of each claim for scores."""
    claim = scoring._claim
    with mock.patch.object(scoring, "_claim", lambda *arguments: wrap(claim(*arguments))):
        yield


@contextlib.contextmanager
def use_cores(number: int) -> Iterator[None]:
    """The machine has this number of cores."""
    with mock.patch.object(copying, "_CORES", number):
        yield


# --- parts by themselves


def receive_automaton(record: object) -> Array:
    """The edges that a pool makes of a record with an automaton."""
    request = AutomatonRequest(Batch(Counters(), []), "a segment")
    request.accept(record)  # type: ignore[arg-type]  # only what it has of a record is used
    return request.edges


def memory_reservation_file() -> str:
    """The file whose lines create shared memory: see `create_shared_memory`."""
    return shared_memory.__file__
