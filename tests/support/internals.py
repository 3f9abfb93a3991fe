"""The private parts of a pool that tests use. No other test file names a private attribute of a pool.

The functions speak of children, of processes, and of moments in the life of a pool: what these are made of is
known here only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any
from unittest import mock

import shmbridge
from shmbridge import memory as shared_memory
from shmbridge._native import lib
from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.errors import PeerGoneError
from shmbridge.memory import Memory, create_shared_memory
from shmbridge.parent import (
    child,
    child_state,
    command_line,
    ending,
    fork_safety,
    in_place,
    in_place_request,
    launch,
    lifecycle,
    pipes,
    placement,
    process,
    scheduler,
    scoring,
    spawn,
    stats_socket,
    supervisor,
)
from shmbridge.parent.automata import AutomatonRequest
from shmbridge.parent.batch import Batch, BatchRequest
from shmbridge.parent.request import Request, RequestState
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
    "child_with_news",
    "children",
    "create_shared_memory",
    "fail_in_watcher",
    "fork_lock_is_free",
    "idle_child_of_queue",
    "in_place_of_start_wait",
    "interrupt",
    "is_serving",
    "kill_child",
    "log_long_waits_every",
    "memory_reservation_file",
    "once",
    "poll",
    "poll_after_exits_only",
    "queued_names",
    "receive_automaton",
    "record_requests",
    "restart_dead_children",
    "simulated_environment",
    "unfinished",
    "use_cores",
    "watch_descriptor",
    "what_is_held",
    "wrap_score_claims",
]

Hook = Callable[..., Any]
_PATIENCE = 60.0  # seconds


# --- children


class ChildProcess:
    """One Sprint process of a pool. A restart creates another one."""

    def __init__(self, slot_child: child.Child) -> None:
        self._child = slot_child
        self._process = slot_child._process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the process has sent its hello."""
        return self._child.hello is not None

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended, or its last output was not read."""
        return not self._process.exited

    @property
    def has_exited(self) -> bool:
        """Whether the process has ended, and its last output and messages were read."""
        return self._process.exited

    @property
    def is_dead(self) -> bool:
        """Whether the pool treats it as dead."""
        return self._child.state is child_state.ChildState.DEAD

    @property
    def is_timed(self) -> bool:
        """Whether a timeout runs for the hello, the next answer or the next score request."""
        return self._child.deadline() is not None

    @property
    def awaits_scores(self) -> bool:
        """Whether the process awaits the scores of features that it has sent."""
        return self._child.score_requests.features is not None

    @property
    def memory(self) -> Memory:
        """The memory that the process shares with the trainer."""
        return self._child.channel.memory

    def kill(self) -> None:
        """Kill the process and its group, as the pool does. The process may have ended already."""
        self._process.kill()

    def wait_for_exit(self) -> None:
        """Wait until the process has ended, and its last output and messages were read."""
        assert self._process.join(_PATIENCE), f"the child {self.pid} still runs"

    def notice_death(self) -> bool:
        """Have the pool check the process, and return whether the pool treats it as dead."""
        return self._child.poll_exit()

    def death(self) -> PeerGoneError:
        """Return the error that describes the end of the process."""
        return self._process.exit_error()

    def send_raw_control_bytes(self, data: bytes) -> None:
        """Write to the control pipe, as the trainer's process may."""
        os.write(self._process._p2c_fd, data)

    def claim_record(self, kind: int, rows: int, columns: int, *, sequence: int, dtype: int) -> Claim:
        """Claim any record in the ring to the child, as the trainer's process may."""
        claim = self._child.channel.sender.claim(kind, rows, columns, sequence=sequence, dtype=dtype)
        assert claim is not None
        return claim


def children(pool: shmbridge.SprintInstancePool) -> list[ChildProcess]:
    """Return the newest process of each child, in the order of `pool.stats().children`."""
    return [ChildProcess(slot.child) for slot in pool._pool._supervisor.slots]


def kill_child(pool: shmbridge.SprintInstancePool, index: int = 0) -> None:
    """Kill a child with SIGKILL, and wait until its last output and messages were read."""
    victim = children(pool)[index]
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait_for_exit()


def child_of(claim: in_place.SegmentClaim) -> int:
    """Return the id of the process whose ring contains an open claim."""
    assert claim._child is not None, "the claim was sent or aborted"
    return claim._child.pid


# --- the pool


def poll(pool: shmbridge.SprintInstancePool) -> bool:
    """Have the pool poll each child, and return whether there was an answer or another event."""
    return pool._pool.scheduler.poll()


def unfinished(pool: shmbridge.SprintInstancePool) -> list[str]:
    """Return what an idle pool must not have: requests, records, deadlines, a lock that is held."""
    parts = pool._pool
    parts.scheduler.poll()
    found = [f"queued: {request.name}" for request in parts.scheduler.queue]
    if not _can_take(parts.lock):
        found.append("the pool's lock")
    for each, stats in zip(parts.scheduler.children, pool.stats().children):
        found += [f"in flight: {name}" for name in each.in_flight.names]
        if each.clock.deadline is not None:
            found.append("a deadline")
        if each.channel.sender.oldest_open() is not None:
            found.append("a claim")
        if stats.posteriors_used or stats.error_signals_used:
            found.append(f"records: {stats.posteriors_used} and {stats.error_signals_used} bytes")
    return found


def fork_lock_is_free() -> bool:
    """Return whether another thread could fork now."""
    return _can_take(fork_safety._blocked)


def _can_take(lock: Any) -> bool:
    """Return whether another thread can take a lock now."""
    answers = []

    def run() -> None:
        take = lock.acquire_now if hasattr(lock, "acquire_now") else lambda: lock.acquire(blocking=False)
        answers.append(take())
        if answers[0]:
            lock.release()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return bool(answers[0])


def restart_dead_children(pool: shmbridge.SprintInstancePool) -> None:
    """Restart the children that have died, as the next call would."""
    pool._pool.scheduler.restart_dead_children()


def is_serving(pool: shmbridge.SprintInstancePool) -> bool:
    """Return whether a thread runs serve_scores."""
    return pool._pool.state is lifecycle.PoolState.SERVING


def watch_descriptor(
    pool: shmbridge.SprintInstancePool, descriptor: int, callback: Callable[[], bool]
) -> None:
    """Call back in the pool's thread when the descriptor is readable. The pool closes it."""
    pool._pool._watcher.watch(descriptor, callback)


# --- hooks, which are called until the context manager exits


def once(hook: Hook) -> Hook:
    """Return a hook that calls `hook` only the first time."""
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
    """Call the hook before a call of the pool sleeps."""
    with _before(pool._pool.scheduler, "_sleep", hook):
        yield


@contextlib.contextmanager
def in_place_of_start_wait(hook: Callable[[], Any]) -> Iterator[None]:
    """Call the hook instead of waiting until the children of a new pool are ready."""

    def call(_self: scheduler.Scheduler, _slots: object) -> None:
        hook()

    with mock.patch.object(scheduler.Scheduler, "await_ready", call):
        yield


@contextlib.contextmanager
def before_each_exit_wait(hook: Callable[[], Any]) -> Iterator[None]:
    """Call the hook before a pool waits for the exit of a child."""
    with _before(process.SprintProcess, "join", hook):
        yield


@contextlib.contextmanager
def after_each_spawn(hook: Callable[[int], Any]) -> Iterator[None]:
    """Call the hook right after the start of a child's process, with its id."""
    spawn_process = spawn.spawn

    def hooked(*arguments: Any) -> Any:
        pid = spawn_process(*arguments)
        hook(pid)
        return pid

    with mock.patch.object(process, "spawn", hooked):
        yield


@contextlib.contextmanager
def before_each_memory_reservation(hook: Callable[[], Any]) -> Iterator[None]:
    """Call the hook before the memory of a child is reserved."""
    with _before(launch, "create_shared_memory", hook):
        yield


@contextlib.contextmanager
def before_each_result(hook: Callable[[], Any]) -> Iterator[None]:
    """Call the hook when an answer in place was received, before it becomes a result."""
    with _before(in_place_request, "SegmentResult", hook):
        yield


@contextlib.contextmanager
def before_each_score_copy(hook: Callable[[], Any]) -> Iterator[None]:
    """Call the hook before scores are copied to Sprint."""
    with _before(scoring, "copy_checked", hook):
        yield


# --- changes, until the context manager exits


@contextlib.contextmanager
def poll_after_exits_only() -> Iterator[None]:
    """Let pools poll their children only when all have exited, as if the trainer had no core before."""
    poll_now = scheduler.Scheduler.poll

    def late(self: scheduler.Scheduler) -> bool:
        for each in self.children:
            ChildProcess(each).wait_for_exit()
        return poll_now(self)

    with mock.patch.object(scheduler.Scheduler, "poll", late):
        yield


@contextlib.contextmanager
def log_long_waits_every(seconds: float, *, long: float = 30.0) -> Iterator[None]:
    """Log the reason of long waits this often; a segment after `long` seconds, and at each doubling."""
    with (
        mock.patch.object(scheduler, "NOTICE_SECONDS", seconds),
        mock.patch.object(supervisor, "NOTICE_SECONDS", seconds),
        mock.patch.object(supervisor, "_LONG_SECONDS", long),
    ):
        yield


@contextlib.contextmanager
def change_control_messages(**fields: object) -> Iterator[None]:
    """Replace these fields in each control message to a child."""
    send = process.SprintProcess.send

    def changed(self: process.SprintProcess, kind: str, **given: object) -> None:
        send(self, kind, **{**given, **fields})

    with mock.patch.object(process.SprintProcess, "send", changed):
        yield


@contextlib.contextmanager
def wrap_score_claims(wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace each claim for scores by the return value of `wrap`."""
    claim = scoring._claim
    with mock.patch.object(scoring, "_claim", lambda *arguments: wrap(claim(*arguments))):
        yield


@contextlib.contextmanager
def fail_in_watcher(what: str, error: BaseException) -> Iterator[None]:
    """Raise an error in the thread that watches Sprint: in "exit", "output" or "messages"."""
    owner, name = {
        "exit": (ending.Ending, "collect"),
        "output": (pipes.OutputLines, "feed"),
        "messages": (pipes.LatestMessages, "put"),
    }[what]
    with mock.patch.object(owner, name, side_effect=error):
        yield


@contextlib.contextmanager
def use_cores(number: int) -> Iterator[None]:
    """Let the machine appear to have this number of cores."""
    with mock.patch.object(placement, "_CORES", number):
        yield


# --- separate parts


def receive_automaton(record: object) -> Array:
    """Return the edges that a pool receives from a record with an automaton."""
    request = AutomatonRequest(Batch(Counters(), []), "a segment")
    request.state = RequestState.IN_FLIGHT
    request.accept(record)  # type: ignore[arg-type]  # a substitute with the attributes in use
    return request.edges


def memory_reservation_file() -> str:
    """Return the path of the source of `create_shared_memory`."""
    return shared_memory.__file__


# --- a simulated environment: tests/simulation


@contextlib.contextmanager
def simulated_environment(*, launch: Hook, watcher: type, clock: Any, uninterrupted: Hook) -> Iterator[None]:
    """Replace the functions and modules through which the parent reaches processes, threads and time.

    Args:
        launch: replaces launch.launch.
        watcher: replaces watcher.Watcher.
        clock: replaces the module `time`.
        uninterrupted: replaces the function that starts a thread for what signals must not interrupt.
    """
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("shmbridge.parent."):
                for attribute, value in list(vars(module).items()):
                    if value is time:
                        stack.enter_context(mock.patch.object(module, attribute, clock))
                    elif value is time.monotonic:
                        stack.enter_context(mock.patch.object(module, attribute, clock.monotonic))
                    elif attribute == "uninterrupted" and callable(value):
                        stack.enter_context(mock.patch.object(module, attribute, uninterrupted))
        stack.enter_context(mock.patch.object(child, "launch", launch))
        stack.enter_context(mock.patch.object(lifecycle, "Watcher", watcher))
        stack.enter_context(mock.patch.object(supervisor, "require_shared_memory"))
        stack.enter_context(mock.patch.object(stats_socket, "serve_stats"))
        parsed = command_line.CommandLine.parse(sys.executable, "")
        stack.enter_context(mock.patch.object(command_line.CommandLine, "parse", return_value=parsed))
        yield


@contextlib.contextmanager
def record_requests(requests: list[weakref.ref[Request]]) -> Iterator[None]:
    """Append a weak reference to each request that is created."""

    def recording(init: Hook) -> Hook:
        def recorded(self: Request, *arguments: Any, **more: Any) -> None:
            requests.append(weakref.ref(self))
            init(self, *arguments, **more)

        return recorded

    with contextlib.ExitStack() as stack:
        for cls in (BatchRequest, in_place_request.InPlaceRequest):
            stack.enter_context(mock.patch.object(cls, "__init__", recording(cls.__init__)))
        yield


def interrupt(pool: shmbridge.SprintInstancePool) -> None:
    """Do what `close` does first, in another thread than that of a call."""
    pool._pool.interrupt()


def idle_child_of_queue(pool: shmbridge.SprintInstancePool) -> Any:
    """Return the pid of a child that could receive the next queued request now, or None."""
    scheduler_ = pool._pool.scheduler
    if any(request.state is RequestState.QUEUED for request in scheduler_.queue):
        for each in scheduler_.children:
            if each.state is child_state.ChildState.READY and not each.in_flight:
                memory = each.channel.memory
                used = memory.used(shared_memory.POSTERIORS_LINES, each.channel.sender.capacity)
                if not used and each.oldest_open_claim() is None:
                    return each.pid
    return None


def queued_names(pool: shmbridge.SprintInstancePool) -> list[str]:
    """Return the segment names of the requests that wait for a child."""
    return [each.name for each in pool._pool.scheduler.queue if each.state is RequestState.QUEUED]


def child_with_news(pool: shmbridge.SprintInstancePool) -> Any:
    """Return the pid of a child whose answer was not received yet, or None."""
    for each in pool._pool.scheduler.children:
        if each.state is not child_state.ChildState.DEAD:
            receiver = each.channel.receiver
            doorbell = Doorbell(each.channel.memory, create=False)
            ends = WaitList([receiver])
            if lib.shmb_spin(doorbell.pointer, ends.pointer, ends.length, 0) == lib.SHMB_OK:
                return each.pid
    return None


def what_is_held(pool: shmbridge.SprintInstancePool, *, but_not_by: Collection[int]) -> list[str]:
    """Return what the pool holds of requests, claims and records, in words.

    Args:
        pool: the pool.
        but_not_by: the pids of children that do not count.
    """
    scheduler_ = pool._pool.scheduler
    held = [f"{len(scheduler_.queue)} queued requests"] if scheduler_.queue else []
    for each in scheduler_.children:
        if each.state is child_state.ChildState.DEAD or each.pid in but_not_by:
            continue
        if each.in_flight:
            held.append(f"{each.pid}: in flight: {each.in_flight.names}")
        if each.oldest_open_claim() is not None:
            held.append(f"{each.pid}: an open claim: {each.oldest_open_claim()}")
        if each.channel.receiver.used:
            held.append(f"{each.pid}: {each.channel.receiver.used} bytes of results")
    return held
