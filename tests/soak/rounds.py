"""One process of the soak: python rounds.py --seed=S, which runs rounds one after the other.

It tells on its standard output, as JSON, one object a line, where it is. What goes wrong ends it, with the
round's number, the last steps and the last lines of the log on its standard error.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import faulthandler
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Optional

from disturber import Disturber, Forks
from leftovers import Watch, keep_no_gaps, private_memory
from plan import Plan, draw_plan
from trainer import Trainer

import shmbridge

_HERE = Path(__file__).resolve().parent
_WARM_UP = 3  # rounds after which the memory must not grow


class LastLines(logging.Handler):
    """A logging handler that keeps the last lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: collections.deque[str] = collections.deque(maxlen=100)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def tell(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def open_pool(plan: Plan, folder: str) -> Any:
    soak = {"seed": plan.seed, "chances": plan.chances, "folder": folder, "way": plan.way}
    return shmbridge.SprintInstancePool(
        sprint_exec_path=[sys.executable, str(_HERE / "sprint.py")],
        sprint_config=[f'--soak="{json.dumps(soak)}"'],  # Sprint drops the outermost quotes
        use_python_segment_order=plan.way != "loop",
        num_instances=plan.num_instances,
        ring_size=plan.ring_size,
        max_restarts=plan.max_restarts,
        skip_fatal_segments=plan.skip_fatal_segments,
        segment_timeout=plan.segment_timeout,
        exit_timeout=3.0,
    )


def run_round(plan: Plan, total: Counter[str], index: int) -> None:
    """Run one pool from its first step to the check for leftovers."""
    watch = Watch()
    rng = random.Random(plan.seed)
    counts: Counter[str] = Counter()
    forks = Forks()
    trainer: Optional[Trainer] = None
    disturber: Optional[Disturber] = None
    with tempfile.TemporaryDirectory(prefix="shmbridge-soak-") as folder:
        pool = open_pool(plan, folder)
        try:
            trainer = Trainer(plan, rng, pool, forks, counts)
            disturber = Disturber(
                plan, random.Random(plan.seed + 1), pool, forks, trainer.use_in_fork, counts
            )
            for _ in range(plan.n_steps):
                trainer.step()
                tell(event="step", round=index, kind=plan.kind, counts=total + counts)
            trainer.check_statistics()
            if rng.random() < 0.5:
                disturber.stop()
            pool.close()
            disturber.stop()
            trainer.check_kept()
            forks.reap()
        except BaseException:
            if trainer is not None:
                print("the last steps:", *trainer.journal, sep="\n    ", file=sys.stderr)
            raise
        finally:
            if disturber is not None:
                disturber.quit()
            pool.close()
    del trainer, disturber, pool
    left = watch.left_behind()
    assert not left, f"left behind: {left}"
    total.update(counts)
    total["rounds"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no round begins after these")
    parser.add_argument("--first", type=int, default=0, help="the first round's number")
    parser.add_argument("--rounds", type=int, default=1 << 30, help="the maximum number of rounds")
    parser.add_argument("--steps", type=int, default=100, help="of a round with many kills")
    parser.add_argument("--spoil", type=float, default=0.0, help="the chance of a wrong answer")
    parser.add_argument("--growth", type=int, default=4 << 20, help="bytes by which the memory may grow")
    arguments = parser.parse_args()

    keep_no_gaps()
    faulthandler.enable()  # the parent sends SIGABRT if this process hangs
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    log = LastLines()
    logger = logging.getLogger("shmbridge")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(log)

    end = time.monotonic() + arguments.seconds
    counts: Counter[str] = Counter()
    memory = []
    for index in range(arguments.first, arguments.first + arguments.rounds):
        if time.monotonic() > end:
            break
        plan = draw_plan(arguments.seed, index, arguments.steps, arguments.spoil)
        tell(event="round", round=index, plan=dataclasses.asdict(plan))
        try:
            run_round(plan, counts, index)
        except BaseException:
            print("the last lines of the log:", *log.lines, sep="\n    ", file=sys.stderr)
            traceback.print_exc()
            print(f"FAILED: seed {arguments.seed}, round {index}: {plan}", file=sys.stderr)
            raise SystemExit(1) from None
        memory.append(private_memory())
    growth = memory[-1] - memory[_WARM_UP] if len(memory) > _WARM_UP else 0
    tell(event="end", counts=counts, memory=memory, growth=growth)
    if growth > arguments.growth:
        raise SystemExit(
            f"FAILED: seed {arguments.seed}: the trainer's memory grew by {growth} bytes "
            f"from round {_WARM_UP} on: {memory}"
        )


if __name__ == "__main__":
    main()
