"""The memory model of ARMv8 (Deacon; Pulte et al., POPL 2018), for programs compiled from C11.

A load that acquires is LDAR, a store that releases STLR, a read-modify-write is a pair of exclusive accesses,
and a fence is DMB ISHLD if it only acquires, else DMB ISH.
"""

from __future__ import annotations

import itertools
from typing import Any

import z3
from concurrent_program import Event
from consistency import Execution
from memory_order import Order


def armv8(execution: Execution) -> Any:
    """Consider only the executions that ARMv8 allows. None has undefined behaviour."""
    events = [event for event in execution.events if event.thread >= 0]
    is_lower = execution.ranks(events, "rank")

    def before(first: Event, second: Event, premises: list[Any]) -> None:
        execution.imply([*premises, first.guard, second.guard], is_lower(first, second))

    for first, second in execution.pairs_at_a_location():
        if first.thread == second.thread:
            if first.index < second.index:  # the internal axiom: coherence in program order
                execution.order_accesses(first, second, [])
            elif first.kind == "W" and second.kind == "R":
                execution.imply([execution.rf(first, second)], False)
        elif first.kind == "W" and second.kind == "R":
            before(first, second, [execution.rf(first, second)])
        elif second.kind == "W":
            relation = execution.co if first.kind == "W" else execution.fr
            before(first, second, [relation(first, second)])

    for first, second in itertools.combinations(events, 2):
        if first.thread == second.thread and _is_ordered(first, second):
            before(first, second, [])
    for write in (
        events
    ):  # aob: a load that acquires from an exclusive store of its thread; dob: data, then reads-from
        for read in execution.reads.get(write.location, []) if write.kind == "W" else []:
            if read.thread != write.thread or read.index < write.index:
                continue
            if write.partner is not None and read.order.acquires:
                before(write, read, [execution.rf(write, read)])
            for source in write.data:
                before(source, read, [execution.rf(write, read), write.guard])
    return z3.BoolVal(False)


def _is_ordered(first: Event, second: Event) -> bool:
    """Return whether two events of a thread stay in program order: dob, aob, bob."""
    if second.partner is first:
        return True
    if first in second.data or (first in second.control and second.kind == "W"):
        return True
    acquires = first.kind == "R" and first.order.acquires
    releases = second.kind == "W" and second.order.releases
    if acquires or releases:
        return True
    strong_store = first.kind == "W" and first.order.releases
    if strong_store and second.kind == "R" and second.order.acquires:
        return True
    if second.kind == "F":
        return first.kind == "R" or second.order != Order.ACQUIRE
    return first.kind == "F"
