"""The memory model of C11, as repaired by Lahav, Vafeiadis, Kang, Hur and Dreyer (RC11, PLDI 2017).

With the release sequences of C++20, which order less. A relation that only forbids executions may be larger
than its definition requires, so its definition is added as implications: the solver chooses the smallest.
"""

from __future__ import annotations

import itertools
from typing import Any

import z3
from concurrent_program import Event
from consistency import Execution
from memory_order import Order


class Rc11:
    """The happens-before relation of an execution, and the constraints of RC11."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.events = [event for event in execution.events if event.thread >= 0]
        self.threads: dict[int, list[Event]] = {}
        for event in self.events:
            self.threads.setdefault(event.thread, []).append(event)
        self._happens: dict[tuple[int, int], Any] = {}
        for first, second in itertools.permutations(self.events, 2):
            if first.thread != second.thread:
                self._happens[first.index, second.index] = z3.Bool(f"hb{first.index},{second.index}")
            else:
                self._happens[first.index, second.index] = first.index < second.index
        self._add_no_thin_air()
        self._add_happens_before(self._synchronizations())
        for first, second in execution.pairs_at_a_location():
            if first.thread != second.thread or first.index < second.index:
                execution.order_accesses(first, second, [self.hb(first, second)])
        self._add_order_of_seq_cst()

    def hb(self, first: Event, second: Event) -> Any:
        """Return whether one event happens before another."""
        return self._happens[first.index, second.index]

    def race(self) -> Any:
        """Return whether two accesses race, of which one is plain: then C11 defines no behaviour."""
        races = []
        for first, second in self.execution.pairs_at_a_location():
            if (
                first.index < second.index
                and first.thread != second.thread
                and "W" in (first.kind, second.kind)
                and Order.PLAIN in (first.order, second.order)
            ):
                ordered = z3.Or(self.hb(first, second), self.hb(second, first))
                races.append(z3.And(first.guard, second.guard, z3.Not(ordered)))
        return z3.Or(races)

    def _add_no_thin_air(self) -> None:
        """Add that no read depends on itself: program order and reads-from have no cycle."""
        is_earlier = self.execution.ranks(self.events, "time")
        for events in self.threads.values():
            for first, second in zip(events, events[1:]):
                self.execution.imply([], is_earlier(first, second))
        for reads in self.execution.reads.values():
            for read in reads:
                for write in self.execution.writes[read.location]:
                    if write.thread >= 0:
                        self.execution.imply([self.execution.rf(write, read)], is_earlier(write, read))

    def _release_sequences(self) -> dict[tuple[int, int], Any]:
        """Return, for each atomic write, its release sequence: itself, and chains of modifications."""
        found: dict[tuple[int, int], Any] = {}
        for writes in self.execution.writes.values():
            atomic = [write for write in writes if write.thread >= 0 and write.order != Order.PLAIN]
            for first, last in itertools.product(atomic, repeat=2):
                if first is last:
                    found[first.index, last.index] = True
                elif last.partner is not None:
                    found[first.index, last.index] = z3.Bool(f"rs{first.index},{last.index}")
            for first, middle, last in itertools.product(atomic, repeat=3):
                if (first.index, middle.index) in found and last.partner is not None and first is not last:
                    if middle is last:
                        continue
                    self.execution.imply(
                        [
                            found[first.index, middle.index],
                            last.guard,
                            self.execution.rf(middle, last.partner),
                        ],
                        found[first.index, last.index],
                    )
        return found

    def _synchronizations(self) -> dict[int, list[tuple[Event, Any]]]:
        """Return, for each releasing event, what synchronizes with it, and when."""
        sequences = self._release_sequences()
        found: dict[tuple[int, int], tuple[Event, Event, Any]] = {}
        by_index = {event.index: event for event in self.events}
        for (first_index, last_index), in_sequence in sequences.items():
            first, last = by_index[first_index], by_index[last_index]
            sources = [first] if first.order.releases else []
            sources += [
                e
                for e in self.threads[first.thread]
                if e.kind == "F" and e.order.releases and e.index < first_index
            ]
            if not sources:
                continue
            for read in self.execution.reads.get(first.location, []):
                if read.thread == first.thread or read.order == Order.PLAIN or read is last.partner:
                    continue
                targets = [read] if read.order.acquires else []
                targets += [
                    e
                    for e in self.threads[read.thread]
                    if e.kind == "F" and e.order.acquires and e.index > read.index
                ]
                for source, target in itertools.product(sources, targets):
                    key = source.index, target.index
                    if key not in found:
                        found[key] = source, target, z3.Bool(f"sw{source.index},{target.index}")
                    self.execution.imply(
                        [
                            in_sequence, self.execution.rf(last, read),
                            source.guard, first.guard, last.guard, read.guard, target.guard,
                        ],
                        found[key][2],
                    )  # fmt: skip
        edges: dict[int, list[tuple[Event, Any]]] = {}
        for source, target, synchronizes in found.values():
            edges.setdefault(source.index, []).append((target, synchronizes))
        return edges

    def _add_happens_before(self, edges: dict[int, list[tuple[Event, Any]]]) -> None:
        imply = self.execution.imply
        for first in self.events:
            for source in self.events:
                if source is not first and source.thread == first.thread and source.index < first.index:
                    continue
                for target, synchronizes in edges.get(source.index, []):
                    if target.thread == first.thread:
                        continue
                    reaches = [] if source is first else [self.hb(first, source)]
                    imply([*reaches, synchronizes], self.hb(first, target))
        for events in self.threads.values():
            for middle, last in zip(events, events[1:]):
                for first in self.events:
                    if first.thread != last.thread:
                        imply([self.hb(first, middle)], self.hb(first, last))

    def _add_order_of_seq_cst(self) -> None:
        """Add that the partial SC relation of RC11 has no cycle: its events have ranks."""
        imply = self.execution.imply
        strong = [event for event in self.events if event.order == Order.SEQ_CST]
        fences = [event for event in strong if event.kind == "F"]
        accesses = [event for event in strong if event.kind != "F"]
        is_lower = self.execution.ranks(strong, "rank")

        def before(first: Event, second: Event, premises: list[Any]) -> None:
            imply([*premises, first.guard, second.guard], is_lower(first, second))

        for first, second in itertools.permutations(strong, 2):
            if first.thread == second.thread:
                if first.index < second.index:
                    before(first, second, [])
            elif first.kind == "F" and second.kind == "F":
                before(first, second, [self.hb(first, second)])
            elif first.kind != "F" and second.kind != "F":
                self._add_between_accesses(first, second, before)
        for fence in fences:
            self._add_from_fence(fence, accesses, fences, before)
            self._add_to_fence(fence, accesses, before)

    def _add_between_accesses(self, first: Event, second: Event, before: Any) -> None:
        """Add: first, then another location, then happens-before, then from another location to second."""
        if first.location == second.location:
            before(first, second, [self.hb(first, second)])
        for middle in self.threads[first.thread]:
            if middle.index > first.index and middle.location != first.location:
                for last in self.threads[second.thread]:
                    if last.index < second.index and last.location != second.location:
                        before(first, second, [middle.guard, last.guard, self.hb(middle, last)])
        if first.location == second.location:
            for direct in self._direct(first, second):
                before(first, second, [direct])

    def _direct(self, first: Event, second: Event) -> list[Any]:
        """Return co or fr from first to second."""
        if second.kind != "W":
            return []
        return [self.execution.co(first, second) if first.kind == "W" else self.execution.fr(first, second)]

    def _eco(self, first: Event, second: Event) -> list[list[Any]]:
        """Return the ways in which second follows first in the order of their location."""
        if second.kind == "W":
            return [self._direct(first, second)]
        ways = [[self.execution.rf(first, second)]] if first.kind == "W" else []
        for write in self.execution.writes[first.location]:
            if write is not first:
                follows = self._direct(first, write) if write.thread >= 0 else []
                if follows:
                    ways.append([*follows, write.guard, self.execution.rf(write, second)])
        return ways

    def _add_from_fence(self, fence: Event, accesses: list[Event], fences: list[Event], before: Any) -> None:
        reached = {event.index: z3.Bool(f"from{fence.index},{event.index}") for event in self.events}
        for first, second in self.execution.pairs_at_a_location():
            if first.thread == fence.thread and first.index < fence.index:
                continue
            start = [self.hb(fence, first), first.guard, second.guard]
            for way in self._eco(first, second):
                self.execution.imply([*start, *way], reached[second.index])
            if second in accesses:
                for direct in self._direct(first, second):
                    before(fence, second, [*start, direct])
                if first.thread != second.thread:
                    before(fence, second, [*start, self.hb(first, second)])
        for other in fences:
            for event in self.events:
                if event.kind != "F" and (event.thread != other.thread or event.index < other.index):
                    before(fence, other, [reached[event.index], event.guard, self.hb(event, other)])
        for second in accesses:
            if second.thread != fence.thread:
                for first in self.threads[second.thread]:
                    if first.index < second.index:
                        before(fence, second, [self.hb(fence, first), first.guard])

    def _add_to_fence(self, fence: Event, accesses: list[Event], before: Any) -> None:
        for first, second in self.execution.pairs_at_a_location():
            if first not in accesses or (second.thread == fence.thread and second.index > fence.index):
                continue
            end = [self.hb(second, fence), second.guard]
            for direct in self._direct(first, second):
                before(first, fence, [*end, direct])
            if first.thread != second.thread:
                before(first, fence, [*end, self.hb(first, second)])
        for first in accesses:
            if first.thread != fence.thread:
                for second in self.threads[first.thread]:
                    if second.index > first.index:
                        before(first, fence, [self.hb(second, fence), second.guard])


def rc11(execution: Execution) -> Any:
    """Consider only the executions that RC11 allows; return whether one has a data race."""
    return Rc11(execution).race()
