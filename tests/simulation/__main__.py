"""Run schedules of the simulated world, or replay one: python tests/simulation --seed=N

Without --seed, each core runs a part of the schedules. The first seed is random, unless --first is given.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simulation.schedules import simulation

_PART = 1000  # schedules


def run_part(first: int) -> Optional[str]:
    """Run the schedules of a thousand seeds. Return what went wrong, if anything did."""
    with simulation() as schedules:
        try:
            for seed in range(first, first + _PART):
                schedules.run(seed)
        except AssertionError as error:
            return str(error)
    return None


def main() -> int:
    """Return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(
        prog="simulation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="replay the schedule of this seed, and print what happens")
    parser.add_argument("--schedules", type=int, default=1_000_000, help="how many (default: 1,000,000)")
    parser.add_argument("--first", type=int, help="the first seed (default: a random one)")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        with simulation() as schedules:
            try:
                print("\n".join(schedules.run(arguments.seed, with_journal=True).journal))
            except AssertionError as error:
                print(error)
                return 1
        return 0
    first = secrets.randbelow(1 << 40) if arguments.first is None else arguments.first
    seeds = range(first, first + arguments.schedules, _PART)
    print(f"{len(seeds) * _PART:,} schedules from seed {first}", flush=True)
    begin = time.monotonic()
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        for problem in pool.imap_unordered(run_part, seeds):
            if problem is not None:
                print(problem)
                return 1
    print(f"each request was answered or failed once, in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
