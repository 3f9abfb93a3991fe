"""Ring and doorbell as concurrent programs. Their memory orders and fences are read from csrc.

Each method of Bridge has the steps of the C function in its docstring. test_bridge_in_memory_models.py fails
if such a function changes otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import z3
from c_atomics import Function
from concurrent_program import Condition, Event, Program, Thread, Value
from consistency import Execution
from memory_order import Order

PLAIN = Order.PLAIN


def _not(condition: Any) -> Condition:
    return Condition(z3.Not(condition))


@dataclass
class Scenario:
    """A program, and what must not happen in it.

    Attributes:
        bad: conditions that must not hold: a record that is not whole, or that arrives twice.
        asleep: for each sleep without a timeout, whether it does not end unless a wake follows, and its turn.
        woken: for each sleep, whether a wake ends it.
        wakes: the turns of the wakes.
        beyond: whether the program goes on after what was unrolled.
    """

    program: Program
    bad: list[Any] = field(default_factory=list)
    asleep: list[tuple[Any, Event]] = field(default_factory=list)
    woken: list[Any] = field(default_factory=list)
    wakes: list[Event] = field(default_factory=list)
    beyond: list[Any] = field(default_factory=list)

    def fails(self, execution: Execution) -> Any:
        """Return whether something bad happens, or a process sleeps forever although there is news."""
        forever = [
            z3.And(reason, *(z3.Or(z3.Not(wake.guard), execution.co(wake, turn)) for wake in self.wakes))
            for reason, turn in self.asleep
        ]
        return z3.Or([*self.bad, *forever])

    def is_cut_off(self, _: Execution) -> Any:
        """Return whether an execution is longer than what was unrolled."""
        return z3.Or(self.beyond)


class Bridge:
    """Adds the steps of C functions to threads.

    Args:
        functions: of csrc.
        mistakes: the names of steps that a mutant takes wrongly.
        max_tokens: TOKENS_MAX, which is smaller here.
    """

    def __init__(
        self, scenario: Scenario, functions: dict[str, Function], mistakes: Iterable[str], max_tokens: int
    ) -> None:
        self.scenario = scenario
        self.c = functions
        self.mistakes = frozenset(mistakes)
        self.max_tokens = max_tokens

    # --- the kernel: futex calls take turns, and a wake reaches the sleeper that took its turn before

    def futex_wake(self, thread: Thread) -> None:
        if "does not wake" not in self.mistakes:
            self.scenario.wakes.append(thread.add_event("futex", 1, Order.ACQ_REL)[1])

    def futex_wait(self, thread: Thread) -> Condition:
        """Return whether the call returns: there is a token, or a wake comes."""
        old, turn = thread.add_event("futex", 1, Order.ACQ_REL)
        tokens = thread.load("tokens", Order.RELAXED)
        is_woken = self.scenario.program.choice()
        sleeps = z3.And(thread.guard, tokens.expression == 0)
        with thread.when(tokens.is_(0) & Condition(is_woken)):
            now = thread.load("futex", Order.ACQUIRE)
            self.scenario.woken.append(thread.guard)
            self.scenario.program.require(z3.Implies(thread.guard, now.expression > old.expression + 1))
        self.scenario.asleep.append((z3.And(sleeps, z3.Not(is_woken)), turn))
        return Condition(z3.Or(tokens.expression != 0, is_woken), tokens.reads)

    # --- doorbell.c

    def poke(self, thread: Thread) -> None:
        """fence; load tokens; if they are below the maximum, add one; wake."""
        c = self.c["shmb_doorbell_poke"]
        thread.fence(c.fence_before("load tokens"))
        if "wakes before adding" in self.mistakes:
            self.futex_wake(thread)
        tokens = thread.load("tokens", c.order("load tokens"))
        with thread.when(_not(tokens.expression >= self.max_tokens)):
            thread.add("tokens", 1, c.order("fetch_add tokens"))
        if "wakes before adding" not in self.mistakes:
            self.futex_wake(thread)

    def ring(self, thread: Thread) -> None:
        """fence; load waiting; if it has the role, exchange it with 0; if it was not 0, poke.

        The sleepers here wait for tails only, so `waiting` is 0 or the role of a producer, 1.
        """
        c = self.c["shmb_doorbell_ring"]
        thread.fence(c.fence_before("load waiting"))
        waiting = thread.load("waiting", c.order("load waiting"))
        with thread.when(waiting.is_not(0)):
            was_waiting = thread.exchange("waiting", 0, c.order("exchange waiting"))
            with thread.when(was_waiting.is_not(0)):
                self.poke(thread)

    def take_token(self, thread: Thread) -> Condition:
        """load tokens; while they are not 0, compare and exchange. Only the last exchange has an event."""
        c = self.c["shmb_doorbell_take_token"]
        tokens = thread.load("tokens", c.order("load tokens"))
        with thread.when(tokens.is_not(0)):
            thread.add("tokens", -1, c.order("compare_exchange_weak tokens"))
            thread.fence(c.fence_before("end"))
        return tokens.is_not(0)

    def announce(self, thread: Thread, waiting: int) -> None:
        """store waiting; fence."""
        c = self.c["shmb_doorbell_announce"]
        thread.store("waiting", waiting, c.order("store waiting"))
        thread.fence(c.fence_before("end"))

    # --- ring.c

    def publish(self, thread: Thread, line: str, position: int, rings: bool = True) -> None:
        """store the own line; ring the peer's doorbell, if there is one."""
        order = self.c["publish"].order("store own line")
        if "rings before publishing" in self.mistakes and rings:
            self.ring(thread)
        thread.store(line, position, order)
        if "rings before publishing" not in self.mistakes and rings:
            self.ring(thread)

    def send(self, thread: Thread, line: str, position: int, content: str, rings: bool = True) -> None:
        """claim and commit: write the record; publish the tail."""
        if "publishes before writing" in self.mistakes:
            self.publish(thread, line, position, rings)
        thread.store(content, position, PLAIN)
        if "publishes before writing" not in self.mistakes:
            self.publish(thread, line, position, rings)

    def load_tail(self, thread: Thread, line: str) -> Value:
        return thread.load(line, self.c["load_tail"].order("load tail"))

    def load_head(self, thread: Thread, line: str) -> Value:
        return thread.load(line, self.c["load_head"].order("load head"))

    def has_news(self, thread: Thread, line: str) -> Value:
        return thread.load(line, self.c["shmb_ring_has_news"].order("load tail"))


class Sleeper:
    """A process that receives one record of each of several rings, and sleeps at its doorbell in between.

    Args:
        lines: the tails of its rings; the record of the tail "x" is "record of x".
        flags: news that no ring shows, which are announced by pokes.
    """

    def __init__(self, bridge: Bridge, thread: Thread, lines: list[str], flags: list[str]) -> None:
        self.bridge = bridge
        self.thread = thread
        self.lines = lines
        self.seen: dict[str, Any] = {name: z3.BoolVal(False) for name in (*lines, *flags)}

    def run(self, rounds: int, attempts: int, spins: bool) -> None:
        """Look for news, and wait, until all news was seen.

        Args:
            rounds: how often it looks.
            attempts: how often it tries to take a token in one sleep.
            spins: whether it may take a token before it announces that it sleeps.
        """
        for number in range(rounds):
            with self.thread.when(_not(self._has_all)):
                self._look()
            with self.thread.when(_not(self._has_all)):
                if number == rounds - 1:
                    self.bridge.scenario.beyond.append(self.thread.guard)
                elif spins:
                    taken = self.bridge.take_token(self.thread)
                    with self.thread.when(taken.negated()):
                        self._sleep(attempts)
                else:
                    self._sleep(attempts)

    @property
    def _has_all(self) -> Any:
        return z3.And(list(self.seen.values()))

    def _look(self) -> None:
        """receive: load_tail; the record. For a flag: load it."""
        for name in self.seen:
            with self.thread.when(_not(self.seen[name])):
                if name in self.lines:
                    value = self.bridge.load_tail(self.thread, name)
                    with self.thread.when(value.is_(1)):
                        record = self.thread.load(f"record of {name}", PLAIN)
                        self.bridge.scenario.bad.append(z3.And(self.thread.guard, record.expression != 1))
                else:
                    value = self.thread.load(name, Order.RELAXED)
                self.seen[name] = z3.Or(self.seen[name], z3.And(self.thread.guard, value.expression == 1))

    def _sleep(self, attempts: int) -> None:
        """shmb_sleep: announce the role; any_news; if there is none, shmb_doorbell_sleep; announce 0."""
        if "checks before announcing" in self.bridge.mistakes:
            news = self._any_news()
            self.bridge.announce(self.thread, 1)
        else:
            self.bridge.announce(self.thread, 1)
            news = self._any_news()
        with self.thread.when(news.negated()):
            self._doorbell_sleep(attempts)
        self.bridge.announce(self.thread, 0)

    def _any_news(self) -> Condition:
        news: list[Any] = []
        reads: frozenset[Event] = frozenset()
        for line in self.lines if "does not check again" not in self.bridge.mistakes else []:
            with self.thread.when(_not(self.seen[line])):
                tail = self.bridge.has_news(self.thread, line)
                news.append(z3.And(z3.Not(self.seen[line]), tail.expression == 1))
                reads |= tail.reads
        return Condition(z3.Or(news), reads)

    def _doorbell_sleep(self, attempts: int) -> None:
        """shmb_doorbell_sleep: until a token can be taken, futex_wait."""
        taken = self.bridge.take_token(self.thread)
        with self.thread.when(taken.negated()):
            returns = self.bridge.futex_wait(self.thread)
            asleep = z3.And(self.thread.guard, z3.Not(returns.expression))
            with self.thread.when(returns):
                if attempts > 1:
                    self._doorbell_sleep(attempts - 1)
                else:
                    self.bridge.scenario.beyond.append(self.thread.guard)
                    asleep = z3.Or(asleep, self.thread.guard)
        self.thread.end_if(asleep)


# --- scenarios: each takes the functions of csrc and the mistakes of a mutant


def two_ringers(
    functions: dict[str, Function],
    mistakes: Iterable[str],
    rounds: int = 3,
    attempts: int = 2,
    spins: bool = False,
) -> Scenario:
    """Two processes send a record each, to one that sleeps."""
    scenario = Scenario(Program())
    bridge = Bridge(scenario, functions, mistakes, max_tokens=3)
    for line in ("A", "B"):
        bridge.send(scenario.program.thread(), line, 1, f"record of {line}")
    Sleeper(bridge, scenario.program.thread(), ["A", "B"], []).run(rounds, attempts, spins)
    return scenario


def ringer_and_poke(
    functions: dict[str, Function],
    mistakes: Iterable[str],
    rounds: int = 3,
    attempts: int = 2,
    spins: bool = False,
    max_tokens: int = 2,
    tokens: int = 0,
) -> Scenario:
    """One process sends a record, another sets a flag and pokes. There may be tokens, up to the maximum."""
    scenario = Scenario(Program(tokens=tokens))
    bridge = Bridge(scenario, functions, mistakes, max_tokens)
    bridge.send(scenario.program.thread(), "A", 1, "record of A")
    poker = scenario.program.thread()
    poker.store("flag", 1, Order.RELAXED)
    bridge.poke(poker)
    Sleeper(bridge, scenario.program.thread(), ["A"], ["flag"]).run(rounds, attempts, spins)
    return scenario


def reused_space(functions: dict[str, Function], mistakes: Iterable[str]) -> Scenario:
    """A producer sends two records in the same space; the consumer releases the first before it is reused."""
    scenario = Scenario(Program())
    bridge = Bridge(scenario, functions, mistakes, max_tokens=3)
    producer, consumer = scenario.program.thread(), scenario.program.thread()
    bridge.send(producer, "tail", 1, "record", rings=False)
    head = bridge.load_head(producer, "head")
    with producer.when(head.is_(1)):
        bridge.send(producer, "tail", 2, "record", rings=False)
    for number in (1, 2):
        tail = bridge.load_tail(consumer, "tail")
        with consumer.when(tail.is_(number)):
            if "releases before reading" in bridge.mistakes:
                bridge.publish(consumer, "head", number, rings=False)
            record = consumer.load("record", PLAIN)
            scenario.bad.append(z3.And(consumer.guard, record.expression != number))
            if "releases before reading" not in bridge.mistakes:
                bridge.publish(consumer, "head", number, rings=False)
    return scenario
