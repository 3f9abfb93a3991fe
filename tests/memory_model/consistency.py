"""What all memory models share: reads-from, the order of writes, coherence and atomicity."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Optional

import z3
from concurrent_program import Event, Program


class Execution:
    """The relations of an execution, as booleans of a solver.

    Attributes:
        events: those of the program and the initial writes.
        solver: has the constraints so far.
    """

    def __init__(self, program: Program) -> None:
        self.events = program.complete()
        self.solver = z3.SolverFor("QF_IDL")
        self.solver.add(program.constraints)
        self.writes: dict[str, list[Event]] = {}
        self.reads: dict[str, list[Event]] = {}
        for event in self.events:
            if event.kind != "F":
                (self.writes if event.kind == "W" else self.reads).setdefault(event.location, []).append(
                    event
                )
        self._negations: dict[int, Any] = {}  # also keeps them alive
        self._order: dict[tuple[int, int], Any] = {}
        self._source: dict[tuple[int, int], Any] = {}
        self._add_order_of_writes()
        self._add_sources()
        self._fr = self._add_from_reads()
        self._add_atomicity()

    # --- relations

    def co(self, first: Event, second: Event) -> Any:
        """Return whether one write to a location is before another."""
        return self._order[first.index, second.index]

    def rf(self, write: Event, read: Event) -> Any:
        """Return whether the read returns the value of the write."""
        return self._source[write.index, read.index]

    def fr(self, read: Event, write: Event) -> Any:
        """Return whether the read returns an older value than the write's. May be true without a reason."""
        return self._fr[read.index, write.index]

    def pairs_at_a_location(self) -> list[tuple[Event, Event]]:
        """Return all ordered pairs of accesses to the same location, without the initial writes."""
        found = []
        for location, writes in self.writes.items():
            accesses = [event for event in [*writes, *self.reads.get(location, [])] if event.thread >= 0]
            found += list(itertools.permutations(accesses, 2))
        return found

    # --- constraints

    def imply(self, premises: list[Any], conclusion: Any) -> None:
        """Add: if all premises hold, so does the conclusion. Each is a boolean of the solver or of Python.

        Calls the C interface of z3: there are many of these, and each takes ten times as long by operators.
        """
        literals = []
        for premise in premises:
            if premise is False:
                return
            if premise is not True:
                negated = self._negations.get(premise.get_id())
                if negated is None:
                    negated = self._negations[premise.get_id()] = z3.Not(premise)
                literals.append(negated.as_ast())
        if conclusion is True:
            return
        if conclusion is not False:
            literals.append(conclusion.as_ast())
        context = self.solver.ctx.ref()
        clause = z3.Z3_mk_or(context, len(literals), (z3.Ast * len(literals))(*literals))
        z3.Z3_solver_assert(context, self.solver.solver, clause)

    def ranks(self, events: list[Event], name: str) -> Callable[[Event, Event], Any]:
        """Return a function: whether an event has a lower rank than another. No cycle has this everywhere."""
        numbers = {event.index: z3.Int(f"{name}{event.index}") for event in events}
        cache: dict[tuple[int, int], Any] = {}

        def is_lower(first: Event, second: Event) -> Any:
            if first is second:
                return False
            key = first.index, second.index
            if key not in cache:
                cache[key] = numbers[first.index] < numbers[second.index]
            return cache[key]

        return is_lower

    def order_accesses(self, first: Event, second: Event, premises: list[Any]) -> None:
        """Add coherence: accesses to one location take effect in this order if the premises hold."""
        premises = [*premises, first.guard, second.guard]
        ways = self.writes[first.location]
        if first.kind == "W" and second.kind == "W":
            self.imply(premises, self.co(first, second))
        elif first.kind == "W":
            for write in ways:
                if write is not first:
                    self.imply([*premises, self.rf(write, second)], self.co(first, write))
        elif second.kind == "W":
            for write in ways:
                self.imply([*premises, self.rf(write, first)], write is not second and self.co(write, second))
        else:
            for older, newer in itertools.permutations(ways, 2):
                self.imply([*premises, self.rf(newer, first), self.rf(older, second)], self.co(newer, older))

    def _add_order_of_writes(self) -> None:
        for writes in self.writes.values():
            for i, j in itertools.combinations(range(len(writes)), 2):
                first, second = writes[i], writes[j]
                before = first.thread < 0 or z3.Bool(f"co{first.index},{second.index}")
                self._order[first.index, second.index] = before
                self._order[second.index, first.index] = False if before is True else z3.Not(before)
            for a, b, c in itertools.permutations(writes, 3):
                self.imply([self.co(a, b), self.co(b, c)], self.co(a, c))

    def _add_sources(self) -> None:
        for location, reads in self.reads.items():
            for read in reads:
                chosen = []
                for write in self.writes[location]:
                    if write is read.partner:
                        self._source[write.index, read.index] = False
                        continue
                    source = self._source[write.index, read.index] = z3.Bool(f"rf{write.index},{read.index}")
                    chosen.append(source)
                    self.imply([source], write.guard)
                    self.imply([source], write.value == read.value)
                self.imply([read.guard], z3.Or(chosen))
                for one, other in itertools.combinations(chosen, 2):
                    self.imply([one, other], False)

    def _add_from_reads(self) -> dict[tuple[int, int], Any]:
        found = {}
        for location, reads in self.reads.items():
            for read, write in itertools.product(reads, self.writes[location]):
                later = found[read.index, write.index] = z3.Bool(f"fr{read.index},{write.index}")
                for source in self.writes[location]:
                    if source is not write:
                        self.imply(
                            [read.guard, write.guard, self.rf(source, read), self.co(source, write)], later
                        )
        return found

    def _add_atomicity(self) -> None:
        for location, reads in self.reads.items():
            for read in reads:
                write = read.partner
                if write is None:
                    continue
                for source, between in itertools.permutations(self.writes[location], 2):
                    if write in (source, between):
                        continue
                    self.imply(
                        [read.guard, between.guard, self.rf(source, read), self.co(source, between)],
                        self.co(write, between),
                    )
                    self.imply([read.guard, self.rf(source, read)], self.co(source, write))


# Adds its constraints, and returns the condition under which the behaviour is undefined: a data race.
Model = Callable[[Execution], Any]


def find_execution(
    program: Program, model: Model, condition: Any, or_undefined: bool = False
) -> Optional[list[str]]:
    """Return the events and values of an execution in which the condition holds; None if there is none.

    Args:
        model: decides which executions are possible.
        condition: a boolean, or a function that returns it for an execution.
        or_undefined: an execution with undefined behaviour is found, too.
    """
    execution = Execution(program)
    undefined = model(execution)
    wanted = condition(execution) if callable(condition) else condition
    execution.solver.add(z3.Or(wanted, undefined) if or_undefined else wanted)
    result = execution.solver.check()
    if result == z3.unsat:
        return None
    if result != z3.sat:
        raise RuntimeError(f"the solver returned {result}: {execution.solver.reason_unknown()}")
    found = execution.solver.model()
    lines = []
    for event in execution.events:
        if event.thread >= 0 and z3.is_true(found.eval(event.guard, model_completion=True)):
            value = "" if event.value is None else f" {found.eval(event.value, model_completion=True)}"
            lines.append(f"{event}{value}")
    return lines
