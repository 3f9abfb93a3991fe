"""Concurrent programs as events: what a memory model is about.

A Thread builds events in program order. Each has a guard, the condition under which it is executed, so that a
program with branches is one set of events. Values are small integers in z3.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import z3
from memory_order import Order


@dataclass(eq=False)
class Event:
    """A read, a write or a fence.

    Attributes:
        thread: its number; -1 for the writes of initial values.
        kind: "R", "W" or "F".
        location: "" for a fence.
        guard: whether it is executed.
        partner: the other half of a read-modify-write.
        data, control: the reads on which its value, and its execution, depend.
    """

    index: int
    thread: int
    kind: str
    location: str
    order: Order
    guard: Any
    value: Any = None
    partner: Optional[Event] = None
    data: frozenset[Event] = frozenset()
    control: frozenset[Event] = frozenset()

    def __repr__(self) -> str:
        return f"T{self.thread}:{self.index} {self.kind}{self.location} {self.order.name.lower()}"


@dataclass(frozen=True)
class Value:
    """A value that a thread has read, with the reads that it comes from."""

    expression: Any
    reads: frozenset[Event] = frozenset()

    def __add__(self, number: int) -> Value:
        return Value(self.expression + number, self.reads)

    def is_(self, number: int) -> Condition:
        return Condition(self.expression == number, self.reads)

    def is_not(self, number: int) -> Condition:
        return Condition(self.expression != number, self.reads)

    def is_at_least(self, number: int) -> Condition:
        return Condition(self.expression >= number, self.reads)


@dataclass(frozen=True)
class Condition:
    """What a branch tests."""

    expression: Any
    reads: frozenset[Event] = frozenset()

    def negated(self) -> Condition:
        return Condition(z3.Not(self.expression), self.reads)

    def __and__(self, other: Condition) -> Condition:
        return Condition(z3.And(self.expression, other.expression), self.reads | other.reads)


Operand = Union[int, Value]


class Program:
    """The events of all threads, initial values (0 unless given), and what is required of an execution."""

    def __init__(self, **initial: int) -> None:
        self.events: list[Event] = []
        self.initial = initial
        self.constraints: list[Any] = []
        self._threads = 0
        self._fresh = itertools.count()

    def thread(self) -> Thread:
        """Return another thread."""
        self._threads += 1
        return Thread(self, self._threads - 1)

    def choice(self) -> Any:
        """Return a boolean that an execution may choose."""
        return z3.Bool(f"choice{next(self._fresh)}")

    def number(self) -> Any:
        """Return an integer that is not determined yet."""
        return z3.Int(f"value{next(self._fresh)}")

    def require(self, condition: Any) -> None:
        """Consider only executions in which this holds."""
        self.constraints.append(condition)

    def complete(self) -> list[Event]:
        """Return the events, after those of the initial values."""
        locations = sorted({event.location for event in self.events if event.location})
        return [
            Event(-1 - i, -1, "W", name, Order.PLAIN, z3.BoolVal(True), z3.IntVal(self.initial.get(name, 0)))
            for i, name in enumerate(locations)
        ] + self.events


@dataclass
class Thread:
    """Adds events to a program, in program order."""

    program: Program
    number: int
    _guards: list[Condition] = field(default_factory=lambda: [Condition(z3.BoolVal(True))])

    @property
    def guard(self) -> Any:
        """The condition under which the next event is executed."""
        return z3.And([condition.expression for condition in self._guards])

    def load(self, location: str, order: Order) -> Value:
        event = self._add("R", location, order, self.program.number())
        return Value(event.value, frozenset([event]))

    def store(self, location: str, value: Operand, order: Order) -> Event:
        given = value if isinstance(value, Value) else Value(z3.IntVal(value))
        return self._add("W", location, order, given.expression, given.reads)

    def exchange(self, location: str, value: int, order: Order) -> Value:
        return self._modify(location, order, lambda _: Value(z3.IntVal(value)))[0]

    def add(self, location: str, number: int, order: Order) -> Value:
        return self._modify(location, order, lambda old: old + number)[0]

    def add_event(self, location: str, number: int, order: Order) -> tuple[Value, Event]:
        """Add to a location; return its old value and the write."""
        return self._modify(location, order, lambda old: old + number)

    def fence(self, order: Optional[Order]) -> None:
        """Add a fence, unless the order is None."""
        if order is not None:
            self._add("F", "", order, None)

    @contextlib.contextmanager
    def when(self, condition: Condition) -> Iterator[None]:
        """Execute the events of the block only if the condition holds."""
        self._guards.append(condition)
        yield
        self._guards.pop()

    def end_if(self, condition: Any) -> None:
        """Execute no later events if the condition holds."""
        self._guards[0] = self._guards[0] & Condition(z3.Not(condition))

    def _modify(self, location: str, order: Order, function: Any) -> tuple[Value, Event]:
        old = self.load(location, order)
        new = function(old)
        (read,) = old.reads
        write = self.store(location, new, order)
        read.partner, write.partner = write, read
        return old, write

    def _add(
        self, kind: str, location: str, order: Order, value: Any, data: frozenset[Event] = frozenset()
    ) -> Event:
        control = frozenset().union(*(condition.reads for condition in self._guards))
        event = Event(
            len(self.program.events),
            self.number,
            kind,
            location,
            order,
            self.guard,
            value,
            None,
            data,
            control,
        )
        self.program.events.append(event)
        return event
