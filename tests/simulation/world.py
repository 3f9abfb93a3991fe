"""The simulated world: its time, its events, and how long everything takes.

Time passes only here. `spend` adds what the trainer's own code costs, and `next_event` jumps to what happens
next. An event is a function with a time. All random numbers come from one generator, so a seed gives one
world, always the same.
"""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sprint import Sprint

_ENDLESS_CALLS = 20_000  # looks at the world without an event or a wait: the code runs in a circle
_ENDLESS_WAITS = 100  # waits that return at once, or at a deadline, while nothing is left to happen


class ViolationError(BaseException):
    """The code under test broke a rule. Not an Exception, so that no handler of the code continues."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """How long everything takes, in seconds.

    Attributes:
        call: what the trainer does between two looks at the world.
        wake: from the commit of a record until the sleeping peer runs.
        frame: what Sprint computes for one frame.
        message: from writing a control message until the watcher has read it.
        exit_notice: from the end of a process until the watcher has noticed it.
        start: from the start of a process to its hello.
        exit: from the request to exit to the end of the process.
        spread: each delay is its typical value times 10**x, with x uniform from -spread to spread.
    """

    call: float = 2e-6
    wake: float = 30e-6
    frame: float = 1e-6
    message: float = 50e-6
    exit_notice: float = 500e-6
    start: float = 0.5
    exit: float = 1e-3
    spread: float = 1.5


class World:
    """One simulated world.

    Args:
        seed: of all random numbers.
        costs: how long everything takes.
        with_journal: whether to record what happens, for people.

    Attributes:
        now: seconds since the beginning.
        random: the generator.
        sprints: all processes that were started, in the order of their start.
        idle: those that sleep until a record or room comes.
        journal: the lines that were recorded.
        interrupt: Ctrl-C was pressed; the next look at the world raises KeyboardInterrupt.
        interrupts: the number of KeyboardInterrupts raised.
        defers_interrupts: the code runs where no signal handler can interrupt it.
    """

    def __init__(self, seed: int, costs: Costs, *, with_journal: bool = False) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.costs = costs
        self.sprints: list[Sprint] = []
        self.idle: list[Sprint] = []
        self.journal: deque[str] = deque(maxlen=2000)
        self.interrupt = False
        self.interrupts = 0
        self.defers_interrupts = False
        self._with_journal = with_journal
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = 0
        self._calls = 0
        self._waits = 0

    def note(self, text: str, *values: object) -> None:
        """Record a line in the journal."""
        if self._with_journal:
            self.journal.append(f"{self.now:12.6f} {text.format(*values)}")

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return probability > 0 and self.random.random() < probability

    def delay(self, typical: float) -> float:
        """Return a random delay."""
        spread = self.costs.spread
        return typical * 10 ** (spread * (2 * self.random.random() - 1)) if spread else typical

    def after(self, typical: float, action: Callable[[], Any]) -> float:
        """Have something happen after a random delay. Return the time."""
        time = self.now + self.delay(typical)
        self.at(time, action)
        return time

    def at(self, time: float, action: Callable[[], Any]) -> None:
        """Have something happen at this time."""
        self._number += 1
        heapq.heappush(self._events, (time, self._number, action))

    def spend(self, *, may_raise: bool = True) -> None:
        """Let the trainer's own code take its time, and the rest of the world go on meanwhile.

        Args:
            may_raise: whether CPython handles signals here.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        self.now += self.costs.call
        self._calls += 1
        if self._calls > _ENDLESS_CALLS:
            raise ViolationError("the trainer runs in a circle: nothing happens, and it does not wait")
        if self.idle:
            self._wake_idle()
        events = self._events
        while events and events[0][0] <= self.now:
            self._happen()
        if may_raise:
            self.check_interrupt()

    def next_event(self, until: float) -> bool:
        """Let the next event happen. If there is none until then, let the time pass and return False."""
        if self.idle:
            self._wake_idle()
        if self._events and self._events[0][0] <= until:
            self._happen()
            return True
        self.now = max(self.now, until)
        return False

    def count_wait(self) -> None:
        """Notice waits that never end: call this before each return from a wait.

        Raises:
            ViolationError: there were many since the last event.
        """
        self._waits += 1
        if self._waits > _ENDLESS_WAITS:
            left = "nothing is left to happen" if not self._events else "it returns at once each time"
            raise ViolationError(f"the trainer waits for something that cannot come: {left}")

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to happen."""
        if self.idle:
            self._wake_idle()
        return not self._events

    def check_interrupt(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed, unless the code runs in another thread."""
        if self.interrupt and not self.defers_interrupts:
            self.raise_interrupt()

    def raise_interrupt(self) -> None:
        """Raise KeyboardInterrupt."""
        self.interrupt = False
        self.interrupts += 1
        self.note("KeyboardInterrupt")
        raise KeyboardInterrupt

    def _happen(self) -> None:
        time, _, action = heapq.heappop(self._events)
        if time > self.now:
            self.now = time
        self._calls = self._waits = 0
        action()

    def _wake_idle(self) -> None:
        for sprint in self.idle[:]:
            if sprint.has_news():
                self.idle.remove(sprint)
                self.after(self.costs.wake, sprint.wake)
