"""One schedule: what a seed makes of the options, the faults, the delays and the user."""

from __future__ import annotations

import gc
import logging
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.internals import record_requests

from .parent import Environment, simulate
from .sprint import MEMORIES, Ledger, Plan
from .trainer import Trainer
from .world import Costs, ViolationError, World

_STEPS = 12  # of the user, at most
_SECONDS = 2.0  # of a core for one schedule, which takes a millisecond


class Simulation:
    """Runs schedules, each in a world of its own. Create it with `simulation`."""

    def __init__(self, enter: Any, requests: list[weakref.ref[Any]]) -> None:
        self._enter = enter
        self._requests = requests

    def run(self, seed: int, *, with_journal: bool = False) -> World:
        """Run the schedule of a seed, and return its world.

        Raises:
            AssertionError: a rule was broken. The message has the seed.
        """
        world = World(seed, Costs(), with_journal=with_journal)
        signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
        try:
            self._run(world)
        except BaseException as error:
            world.defers_interrupts = True  # the interpreter closes the pool at its end
            if isinstance(error, KeyboardInterrupt) and not world.interrupts:
                raise
            journal = "\n".join(world.journal)
            raise AssertionError(
                f"{journal}\nseed {seed}: {type(error).__name__}: {error}\n"
                f"again, with all events: python tests/simulation --seed={seed}"
            ) from error
        for sprint in world.sprints:
            MEMORIES.give_back(sprint.memory)
        return world

    def _run(self, world: World) -> None:
        random = world.random
        options = draw_options(world)
        plan = draw_plan(world, can_hang=options["segment_timeout"] is not None)
        interrupts = random.choice((0.0, 0.0, 0.1, 0.3))
        environment = Environment(world, plan, Ledger(options["num_instances"]))
        self._enter(environment)
        self._requests.clear()
        trainer = Trainer(
            environment,
            options,
            interrupts=interrupts,
            preemptions=random.choice((0.0, 0.2)),
        )
        world.note("{} {}", options, environment.plan)
        trainer.start()
        if trainer.pool is not None:
            if world.chance(0.03):
                world.after(0.01, trainer.close_in_other_thread)
            for _ in range(int(_STEPS * random.random())):
                trainer.step()
            trainer.settle()
        trainer.close()
        self._check_no_request_is_left(world)

    def _check_no_request_is_left(self, world: World) -> None:
        left = [each() for each in self._requests if each() is not None]
        if left and world.interrupts:  # an exception may leave cycles of frames anywhere
            left.clear()
            gc.collect(0)  # all that was created since the last time
            left = [each() for each in self._requests if each() is not None]
        if left:
            raise ViolationError(f"{len(left)} requests are kept after the pool is closed: {left}")


def draw_options(world: World) -> dict[str, Any]:
    """Return the options of the pool."""
    random = world.random
    return {
        "num_instances": random.choice((1, 1, 2, 2, 3)),
        "ring_size": 1 << 16,
        "max_restarts": random.choice((0, 0, 1, 1, 2, 5)),
        "skip_fatal_segments": world.chance(0.3),
        "segment_timeout": random.choice((None, 1.0)),
        "start_timeout": 60.0,
        "exit_timeout": 1.0,
    }


def draw_plan(world: World, *, can_hang: bool) -> Plan:
    """Return the faults of a world: none, or some. Only with a timeout can a Sprint hang at a request."""
    if world.chance(0.3):
        return Plan()
    random = world.random
    rare = random.choice((0.02, 0.1, 0.3))

    def some(share: float) -> float:
        return rare if random.random() < share else 0.0

    return Plan(
        start_fails=some(0.2),
        dies_unready=some(0.1),
        hangs_unready=some(0.1),
        dies=some(0.6),
        hangs=some(0.2) if can_hang else 0.0,
        fails=some(0.3),
        skips=some(0.3),
        lies=some(0.1),
        ignores_exit=some(0.2),
    )


@contextmanager
def simulation() -> Iterator[Simulation]:
    """Prepare this process to run schedules."""

    def stop(*_: object) -> None:
        raise ViolationError(f"the trainer runs in a circle: {_SECONDS} s of a core, and no end")

    requests: list[weakref.ref[Any]] = []
    signal.signal(signal.SIGVTALRM, stop)
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        with simulate() as enter, record_requests(requests):
            yield Simulation(enter, requests)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.enable()
        logging.disable(logging.NOTSET)
