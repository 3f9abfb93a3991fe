"""The parent's code in simulated worlds: each request is answered or fails once, in any schedule."""

from __future__ import annotations

import pytest

from .faults import FAULTS, Fault, planted
from .schedules import Simulation, simulation
from .world import World

PARTS = 50
SCHEDULES = 2000  # of each part
ENOUGH = 20_000  # schedules in which each planted fault must be found


@pytest.mark.parametrize("part", range(PARTS))
def test_each_request_is_answered_or_fails_once_in_any_schedule(part: int) -> None:
    with simulation() as schedules:
        for seed in range(part * SCHEDULES, (part + 1) * SCHEDULES):
            schedules.run(seed)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what.replace(" ", "-"))
def test_a_planted_fault_is_found(fault: Fault) -> None:
    with simulation() as schedules:
        with planted(fault):
            seed = first_failure(schedules)
        schedules.run(seed)  # it is the fault that was found


def test_a_schedule_is_the_same_each_time() -> None:
    with simulation() as schedules:
        for seed in range(300):
            first, again = (times(schedules.run(seed, with_journal=True)) for _ in range(2))
            assert first == again, f"seed {seed}"


def times(world: World) -> list[str]:
    """Return the journal without what differs between objects."""
    return [line.split("<")[0] for line in world.journal]


def first_failure(schedules: Simulation) -> int:
    for seed in range(ENOUGH):
        try:
            schedules.run(seed)
        except AssertionError:
            return seed
    raise AssertionError(f"{ENOUGH} schedules do not find it")
