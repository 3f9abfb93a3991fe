"""The simulated environment of the parent: clock, doorbell, watcher, processes, and their start.

`simulate` puts these in the place of the real ones. All other code of the parent is the real code.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

from shmbridge._native import lib
from shmbridge.channel import Channel
from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.errors import (
    BridgeTimeoutError,
    PeerGoneError,
    ProtocolError,
    ResourceError,
    SegmentTimeoutError,
)
from shmbridge.memory import PAGE, Memory, create_shared_memory
from shmbridge.parent.options import Options
from shmbridge.parent.pipes import LatestMessages
from support.internals import simulated_environment

from .sprint import GEOMETRY, Ledger, Plan, Sprint
from .world import ViolationError, World


class Environment:
    """What the parent sees of one world.

    Attributes:
        plan: the faults from now on.
        is_closing: the pool is being closed: it may end healthy Sprints.
        processes: the handles of all Sprints, in the order of their start.
        failed_starts: the number of starts that failed by the plan.
        before_sleep: called before the trainer's process sleeps.
        after_timeout: called when it has slept until a deadline.
        must_wake: something has happened that must end each wait.
        preemptions: how likely the trainer loses its core when it looks at the watcher's news.
    """

    def __init__(self, world: World, plan: Plan, ledger: Ledger) -> None:
        self.world = world
        self.plan = plan
        self.ledger = ledger
        self.is_closing = False
        self.processes: list[Process] = []
        self.failed_starts = 0
        self.before_sleep: Callable[[], None] = lambda: None
        self.after_timeout: Callable[[], None] = lambda: None
        self.must_wake = False
        self.preemptions = 0.0

    def launch(self, options: Options, watcher: Watcher) -> tuple[Channel, Process]:
        """Start a Sprint."""
        self.world.spend()
        if self.world.chance(self.plan.start_fails):
            self.world.note("a start fails")
            self.failed_starts += 1
            raise ResourceError("no memory is left, as the plan says [shared-memory]")
        sprint = Sprint(self.world, lambda: self.plan, self.ledger, watcher.doorbell)
        self.world.note("Sprint {} starts", sprint.pid)
        channel = Channel.of_parent(sprint.memory, GEOMETRY, own=watcher.doorbell, peer=sprint.bell)
        process = Process(self, sprint, options, watcher)
        self.processes.append(process)
        sprint.start()
        return channel, process


class Process:
    """The parent's handle of a simulated Sprint, in the place of a SprintProcess.

    What the watcher's thread does in reality are events of the world.

    Attributes:
        sprint: the process.
        pid, messages, broken, exited, has_events: as in SprintProcess.
    """

    def __init__(self, environment: Environment, sprint: Sprint, options: Options, watcher: Watcher) -> None:
        self._world = environment.world
        self._environment = environment
        self._options = options
        self._watcher = watcher
        self._news = False
        self.sprint = sprint
        self.pid = sprint.pid
        self.messages = LatestMessages()
        self.broken: Optional[ProtocolError] = None
        self._exited = False
        sprint.on_message = self._on_message
        sprint.on_exit = self._on_exit

    @property
    def exited(self) -> bool:
        """As in SprintProcess."""
        self._lose_core()
        return self._exited

    @property
    def has_events(self) -> bool:
        """As in SprintProcess. The parent reads it before each look at a ring."""
        self._world.spend(may_raise=False)
        self._lose_core()
        return self._news

    @has_events.setter
    def has_events(self, value: bool) -> None:
        self._news = value

    def _lose_core(self) -> None:
        if self._world.chance(self._environment.preemptions) and not self._world.is_over:
            self._world.next_event(math.inf)

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message."""
        self._world.spend()
        if kind == "exit":
            self.sprint.request_exit()

    def kill(self) -> None:
        """Kill the process, for which there must be a reason."""
        self._world.spend()
        self._check_reason("killed")
        self.sprint.end(-signal.SIGKILL)

    def join(self, timeout: float) -> bool:
        """Wait for the exit."""
        world = self._world
        deadline = world.now + timeout
        while not self._exited:
            world.check_interrupt()
            if not world.next_event(deadline):
                world.count_wait()
                if world.now >= deadline:
                    break
        return self._exited

    def join_or_kill(self, timeout: float) -> None:
        """Wait for the exit; kill the process after the timeout."""
        if not self.join(timeout):
            self.kill()
            self.join(math.inf)

    def close(self, timeout: float) -> None:
        """Ask the process to exit; kill it after the timeout."""
        self.send("exit")
        self.join_or_kill(timeout)

    def terminate_hung(self, _timeout: float, segments: Sequence[str]) -> SegmentTimeoutError:
        """End a process that is late, for which there must be a reason."""
        self._check_reason("ended as hung")
        self.sprint.send_signal(signal.SIGUSR1)
        self.join_or_kill(2.0)
        return SegmentTimeoutError(f"Sprint (pid {self.pid}) hangs [timeout]", segments=segments)

    def terminate_unready(self, _timeout: float) -> BridgeTimeoutError:
        """Kill a process that has sent no hello."""
        self.kill()
        self.join(math.inf)
        return BridgeTimeoutError(f"Sprint (pid {self.pid}) was not ready [start-timeout]")

    def exit_error(self, segments: Sequence[str] = ()) -> PeerGoneError:
        """Return the error that says how the process ended."""
        return PeerGoneError(
            f"Sprint (pid {self.pid}) has ended: {self.sprint.returncode} [peer-gone]", segments=segments
        )

    def last_line_with(self, _text: str) -> Optional[str]:
        """Return None: it has no output."""

    @property
    def reported_errors(self) -> tuple[str, ...]:
        """As in SprintProcess."""
        return ()

    def _check_reason(self, what: str) -> None:
        sprint, environment = self.sprint, self._environment
        late = sprint.is_late(self._options.start_timeout, self._options.segment_timeout)
        if sprint.alive and not (environment.is_closing or sprint.lied or late):
            raise ViolationError(f"Sprint {sprint.pid} is healthy, and is {what}")

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["kind"] == "hello":
            self.sprint.was_ready = True
        self._world.note("the watcher reads {} of {}", message["kind"], self.pid)
        with untraced():  # this is the watcher's thread
            self.messages.put(message)
        self._news = True
        self._watcher.doorbell.poke()

    def _on_exit(self) -> None:
        self._world.note("the watcher notices the exit of {}", self.pid)
        self._exited = True
        if self._world.chance(0.2):  # the trainer may run before the next statement of the watcher's thread
            self._world.after(self._world.costs.call, self._on_exited)
        else:
            self._on_exited()

    def _on_exited(self) -> None:
        self._news = True
        self._watcher.doorbell.poke()


class SimulatedDoorbell(Doorbell):
    """The real doorbell of the parent, at which time passes without waiting."""

    environment: Environment

    def wait(self, ends: WaitList, timeout: Optional[float] = None, _max_spin_ns: int = 0) -> bool:
        """As Doorbell.wait: return when a ring has news, at a poke, or after the timeout."""
        world = self.environment.world
        world.spend()
        deadline = float("inf") if timeout is None else world.now + timeout
        has_slept = False
        while True:
            if lib.shmb_spin(self.pointer, ends.pointer, ends.length, 0) == lib.SHMB_OK:
                world.count_wait()
                return True
            if self.environment.must_wake:
                raise ViolationError("the trainer goes on sleeping; it must wake")
            if not has_slept:
                with untraced():
                    self.environment.before_sleep()
                has_slept = True
            if not world.next_event(deadline):
                self.environment.after_timeout()
                world.count_wait()
                return False
            world.check_interrupt()


class Watcher:
    """A watcher without a thread: its events are the world's."""

    _memory: Optional[Memory] = None

    def __init__(self) -> None:
        if Watcher._memory is None:
            Watcher._memory = Memory(create_shared_memory(PAGE), PAGE)
        self.doorbell = SimulatedDoorbell(Watcher._memory, create=True)
        self.doorbell.environment = _current

    def start(self) -> None:
        """Do nothing."""

    def poke(self) -> None:
        """Wake the trainer."""
        self.doorbell.poke()

    def close(self) -> None:
        """Do nothing."""


_FOLDER = os.path.dirname(__file__)
_current: Environment = None  # type: ignore[assignment]  # one world at a time


def _launch(options: Options, watcher: Any) -> tuple[Channel, Any]:
    return _current.launch(options, watcher)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Run the block as another thread does: the trainer cannot be interrupted in it."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def _uninterrupted(function: Callable[[], Any]) -> Any:
    """Call a function as another thread does, in which no signal handler runs."""
    world = _current.world
    before, world.defers_interrupts = world.defers_interrupts, True
    try:
        with untraced():
            return function()
    finally:
        world.defers_interrupts = before
        world.check_interrupt()


def _on_sigint(_number: int, frame: Any) -> None:
    world = _current.world
    if frame.f_code.co_filename.startswith(_FOLDER):  # the world itself is not to be interrupted
        world.interrupt = True
    else:
        world.raise_interrupt()


def _monotonic() -> float:
    world = _current.world
    world.spend()
    return world.now


@contextlib.contextmanager
def simulate() -> Iterator[Callable[[Environment], None]]:
    """Run the parent in simulated worlds. Yield a function that enters a world."""

    def enter(environment: Environment) -> None:
        global _current
        _current = environment

    clock = types.SimpleNamespace(monotonic=_monotonic, perf_counter=lambda: _current.world.now, sleep=None)
    before = signal.signal(signal.SIGINT, _on_sigint)
    try:
        with simulated_environment(
            launch=_launch, watcher=Watcher, clock=clock, uninterrupted=_uninterrupted
        ):
            yield enter
    finally:
        signal.signal(signal.SIGINT, before)
