"""The classic litmus tests, each with its verdicts: whether RC11 and ARMv8 allow the outcome in question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import z3
from concurrent_program import Program, Value
from memory_order import Order

PLAIN, RLX, ACQ, REL, ACQ_REL, SC = Order


@dataclass(frozen=True)
class Litmus:
    """A program, the outcome in question, and whether the models allow it."""

    name: str
    build: Callable[[Program], Any]
    rc11: bool
    armv8: bool


ALL: list[Litmus] = []


def litmus(name: str, *, rc11: bool, armv8: bool, **arguments: Any) -> Callable[[Any], Any]:
    """Add the decorated function, with these arguments, to the tests."""

    def add(build: Any) -> Any:
        ALL.append(Litmus(name, lambda program: build(program, **arguments), rc11, armv8))
        return build

    return add


def outcome(*pairs: tuple[Value, int]) -> Any:
    return z3.And([value.expression == number for value, number in pairs])


def last(program: Program, location: str, number: int) -> Any:
    """Return a function: whether the last write to the location, of two, has this value."""

    def condition(execution: Any) -> Any:
        writes = [w for w in execution.writes[location] if w.thread >= 0]
        return z3.Or(
            [
                z3.And(
                    [w.guard, w.value == number]
                    + [z3.Or(z3.Not(o.guard), execution.co(o, w)) for o in writes if o is not w]
                )
                for w in writes
            ]
        )

    return condition


def both(*conditions: Any) -> Any:
    return lambda execution: z3.And([c(execution) if callable(c) else c for c in conditions])


# --- store buffering


@litmus("SB", rc11=True, armv8=True)
@litmus("SB+rel+acq", store=REL, load=ACQ, rc11=True, armv8=False)
@litmus("SB+sc", store=SC, load=SC, rc11=False, armv8=False)
@litmus("SB+sc stores only", store=SC, load=RLX, rc11=True, armv8=True)
@litmus("SB+sc loads only", store=RLX, load=SC, rc11=True, armv8=True)
@litmus("SB+sc fences", fences=(SC, SC), rc11=False, armv8=False)
@litmus("SB+sc fence in one thread", fences=(SC, None), rc11=True, armv8=True)
@litmus("SB+acq_rel fences", fences=(ACQ_REL, ACQ_REL), rc11=True, armv8=False)
@litmus("SB+acquire fences", fences=(ACQ, ACQ), rc11=True, armv8=True)
def store_buffering(
    program: Program,
    store: Order = RLX,
    load: Order = RLX,
    fences: tuple[Optional[Order], ...] = (None, None),
) -> Any:
    seen = []
    for mine, other, fence in (("x", "y", fences[0]), ("y", "x", fences[1])):
        thread = program.thread()
        thread.store(mine, 1, store)
        thread.fence(fence)
        seen.append(thread.load(other, load))
    return outcome((seen[0], 0), (seen[1], 0))


@litmus("SB+rmw sc, relaxed loads", order=SC, rc11=True, armv8=True)
def store_buffering_rmw(program: Program, order: Order) -> Any:
    seen = []
    for mine, other in (("x", "y"), ("y", "x")):
        thread = program.thread()
        thread.exchange(mine, 1, order)
        seen.append(thread.load(other, RLX))
    return outcome((seen[0], 0), (seen[1], 0))


# --- message passing


@litmus("MP", rc11=True, armv8=True)
@litmus("MP+rel+acq", store=REL, load=ACQ, rc11=False, armv8=False)
@litmus("MP+rel+rlx", store=REL, rc11=True, armv8=True)
@litmus("MP+rlx+acq", load=ACQ, rc11=True, armv8=True)
@litmus("MP+sc", store=SC, load=SC, rc11=False, armv8=False)
@litmus("MP+release fence+acquire fence", fences=(REL, ACQ), rc11=False, armv8=False)
@litmus("MP+release fence+acq", fences=(REL, None), load=ACQ, rc11=False, armv8=False)
@litmus("MP+rel+acquire fence", fences=(None, ACQ), store=REL, rc11=False, armv8=False)
@litmus("MP+release fence only", fences=(REL, None), rc11=True, armv8=True)
@litmus("MP+acquire fence only", fences=(None, ACQ), rc11=True, armv8=True)
@litmus("MP+sc fences", fences=(SC, SC), rc11=False, armv8=False)
def message_passing(
    program: Program,
    store: Order = RLX,
    load: Order = RLX,
    fences: tuple[Optional[Order], ...] = (None, None),
) -> Any:
    writer, reader = program.thread(), program.thread()
    writer.store("x", 1, RLX)
    writer.fence(fences[0])
    writer.store("y", 1, store)
    flag = reader.load("y", load)
    reader.fence(fences[1])
    data = reader.load("x", RLX)
    return outcome((flag, 1), (data, 0))


@litmus("MP+ctrl", rc11=True, armv8=True)
def message_passing_control(program: Program) -> Any:
    writer, reader = program.thread(), program.thread()
    writer.store("x", 1, RLX)
    writer.store("y", 1, REL)
    flag = reader.load("y", RLX)
    with reader.when(flag.is_(1)):
        data = reader.load("x", RLX)
    return outcome((flag, 1), (data, 0))


@litmus("MP+release sequence through rmw", middle="rmw", rc11=False, armv8=False)
@litmus("MP+release sequence broken by a store", middle="store", rc11=True, armv8=False)
def release_sequence(program: Program, middle: str) -> Any:
    writer, other, reader = program.thread(), program.thread(), program.thread()
    writer.store("x", 1, RLX)
    writer.store("y", 1, REL)
    if middle == "rmw":
        old = other.add("y", 1, RLX)
    else:
        old = other.load("y", RLX)
        with other.when(old.is_(1)):
            other.store("y", 2, RLX)
    flag = reader.load("y", ACQ)
    data = reader.load("x", RLX)
    return outcome((old, 1), (flag, 2), (data, 0))


# --- load buffering


@litmus("LB", rc11=False, armv8=True)
@litmus("LB+acq", load=ACQ, rc11=False, armv8=False)
@litmus("LB+rel", store=REL, rc11=False, armv8=False)
@litmus("LB+data", how="data", rc11=False, armv8=False)
@litmus("LB+ctrl", how="control", rc11=False, armv8=False)
def load_buffering(program: Program, load: Order = RLX, store: Order = RLX, how: str = "") -> Any:
    seen = []
    for mine, other in (("x", "y"), ("y", "x")):
        thread = program.thread()
        value = thread.load(mine, load)
        seen.append(value)
        if how == "control":
            with thread.when(value.is_(1)):
                thread.store(other, 1, store)
        else:
            thread.store(other, value if how == "data" else 1, store)
    return outcome((seen[0], 1), (seen[1], 1))


# --- independent reads of independent writes


@litmus("IRIW", rc11=True, armv8=True)
@litmus("IRIW+rel+acq", store=REL, load=ACQ, rc11=True, armv8=False)
@litmus("IRIW+acq", load=ACQ, rc11=True, armv8=False)
@litmus("IRIW+sc", store=SC, load=SC, rc11=False, armv8=False)
@litmus("IRIW+sc fences", fence=SC, rc11=False, armv8=False)
@litmus("IRIW+acq_rel fences", fence=ACQ_REL, rc11=True, armv8=False)
@litmus("IRIW+sc fence in one reader", fence=SC, readers=1, rc11=True, armv8=True)
def iriw(
    program: Program, store: Order = RLX, load: Order = RLX, fence: Optional[Order] = None, readers: int = 2
) -> Any:
    for location in "xy":
        program.thread().store(location, 1, store)
    seen = []
    for i, locations in enumerate(("xy", "yx")):
        thread = program.thread()
        first = thread.load(locations[0], load)
        thread.fence(fence if i < readers else None)
        seen += [(first, 1), (thread.load(locations[1], load), 0)]
    return outcome(*seen)


# --- coherence


@litmus("CoRR", rc11=False, armv8=False)
def coherence_of_reads(program: Program) -> Any:
    program.thread().store("x", 1, RLX)
    reader = program.thread()
    return outcome((reader.load("x", RLX), 1), (reader.load("x", RLX), 0))


@litmus("CoRR2", rc11=False, armv8=False)
def coherence_of_two_readers(program: Program) -> Any:
    for value in (1, 2):
        program.thread().store("x", value, RLX)
    seen = []
    for values in ((1, 2), (2, 1)):
        reader = program.thread()
        seen += [(reader.load("x", RLX), value) for value in values]
    return outcome(*seen)


@litmus("CoWW", rc11=False, armv8=False)
def coherence_of_writes(program: Program) -> Any:
    thread = program.thread()
    thread.store("x", 1, RLX)
    thread.store("x", 2, RLX)
    return last(program, "x", 1)


@litmus("CoWR", rc11=False, armv8=False)
def coherence_of_write_and_read(program: Program) -> Any:
    thread, other = program.thread(), program.thread()
    thread.store("x", 1, RLX)
    seen = thread.load("x", RLX)
    other.store("x", 2, RLX)
    return both(outcome((seen, 2)), last(program, "x", 1))


@litmus("CoRW", rc11=False, armv8=False)
def coherence_of_read_and_write(program: Program) -> Any:
    thread, other = program.thread(), program.thread()
    seen = thread.load("x", RLX)
    thread.store("x", 1, RLX)
    other.store("x", 2, RLX)
    return both(outcome((seen, 2)), last(program, "x", 2))


# --- two writes twice, and its relatives


@litmus("2+2W", rc11=True, armv8=True)
@litmus("2+2W+rel", store=REL, rc11=True, armv8=False)
@litmus("2+2W+sc", store=SC, rc11=False, armv8=False)
@litmus("2+2W+sc fences", fence=SC, rc11=False, armv8=False)
@litmus("2+2W+release fences", fence=REL, rc11=True, armv8=False)
def two_plus_two_writes(program: Program, store: Order = RLX, fence: Optional[Order] = None) -> Any:
    for first, second in ("xy", "yx"):
        thread = program.thread()
        thread.store(first, 1, store)
        thread.fence(fence)
        thread.store(second, 2, store)
    return both(last(program, "x", 1), last(program, "y", 1))


@litmus("S", rc11=True, armv8=True)
@litmus("S+rel+acq", store=REL, load=ACQ, rc11=False, armv8=False)
def s(program: Program, store: Order = RLX, load: Order = RLX) -> Any:
    writer, reader = program.thread(), program.thread()
    writer.store("x", 2, RLX)
    writer.store("y", 1, store)
    flag = reader.load("y", load)
    reader.store("x", 1, RLX)
    return both(outcome((flag, 1)), last(program, "x", 2))


@litmus("R", rc11=True, armv8=True)
@litmus("R+sc fences", fence=SC, rc11=False, armv8=False)
@litmus("R+acq_rel fences", fence=ACQ_REL, rc11=True, armv8=False)
def r(program: Program, fence: Optional[Order] = None) -> Any:
    writer, other = program.thread(), program.thread()
    writer.store("x", 1, RLX)
    writer.fence(fence)
    writer.store("y", 1, RLX)
    other.store("y", 2, RLX)
    other.fence(fence)
    seen = other.load("x", RLX)
    return both(outcome((seen, 0)), last(program, "y", 2))


# --- three threads


@litmus("WRC", rc11=True, armv8=True)
@litmus("WRC+rel+acq", store=REL, load=ACQ, rc11=False, armv8=False)
def write_to_read_causality(program: Program, store: Order = RLX, load: Order = RLX) -> Any:
    program.thread().store("x", 1, store)
    middle, reader = program.thread(), program.thread()
    first = middle.load("x", load)
    middle.store("y", 1, store)
    second = reader.load("y", load)
    third = reader.load("x", RLX)
    return outcome((first, 1), (second, 1), (third, 0))


@litmus("RWC+sc fences", fence=SC, rc11=False, armv8=False)
@litmus("RWC+acq_rel fences", fence=ACQ_REL, rc11=True, armv8=False)
@litmus("RWC", fence=None, rc11=True, armv8=True)
def read_to_write_causality(program: Program, fence: Optional[Order]) -> Any:
    program.thread().store("x", 1, RLX)
    reader, writer = program.thread(), program.thread()
    first = reader.load("x", RLX)
    reader.fence(fence)
    second = reader.load("y", RLX)
    writer.store("y", 1, RLX)
    writer.fence(fence)
    third = writer.load("x", RLX)
    return outcome((first, 1), (second, 0), (third, 0))


@litmus("ISA2+rel+acq", rc11=False, armv8=False)
def isa2(program: Program) -> Any:
    writer, middle, reader = program.thread(), program.thread(), program.thread()
    writer.store("x", 1, RLX)
    writer.store("y", 1, REL)
    first = middle.load("y", ACQ)
    middle.store("z", 1, REL)
    second = reader.load("z", ACQ)
    third = reader.load("x", RLX)
    return outcome((first, 1), (second, 1), (third, 0))


@litmus("Z6.U", rc11=True, armv8=False)
def z6_u(program: Program) -> Any:
    # From the RC11 paper: C11 forbids it, and compilers for POWER produce it.
    first, second, third = program.thread(), program.thread(), program.thread()
    first.store("x", 1, SC)
    first.store("y", 1, REL)
    old = second.add("y", 1, SC)
    seen = second.load("y", RLX)
    third.store("y", 3, SC)
    value = third.load("x", SC)
    return outcome((old, 1), (seen, 3), (value, 0))


# --- read-modify-writes


@litmus("two additions lose none", rc11=False, armv8=False)
def lost_addition(program: Program) -> Any:
    return outcome(*((program.thread().add("x", 1, RLX), 0) for _ in range(2)))
