"""The parts of the soak, each in processes of its own: the ring alone, and pools with real children.

All follows from the seed, but for the moments at which processes run.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
C_PROGRAMS = HERE.parent / "c"
BUILD = HERE.parents[1] / "build" / "soak"
HANGS = 120.0  # seconds without output


class FailedError(Exception):
    """The soak has found a fault."""


def soak_ring(seed: int, seconds: float, show: Callable[[str], None]) -> Counter[str]:
    """Run the ring alone (tests/c/stress_ring.c, two processes), with random capacities and seeds.

    Args:
        seed: of all.
        seconds: no further ring begins after these.
        show: told how far it is.

    Returns:
        How many records went through how many rings.

    Raises:
        FailedError: a record was wrong, or a side never woke.
    """
    program = BUILD / "stress_ring-plain"
    make = ["make", "--silent", "-C", str(C_PROGRAMS), f"BUILD={BUILD}", str(program)]
    subprocess.run(make, check=True)
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end or not counts:
        capacity = 64 * rng.choice([4, 16, 100, 1000, rng.randint(4, 200), rng.randint(4, 5000)])
        records = min(1_000_000, 4_000_000_000 // capacity)  # a second or two
        arguments = [str(records), "processes", str(capacity), str(rng.getrandbits(32))]
        show(f"{counts['records']:,} records; now a ring of {capacity} bytes")
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise FailedError(f"stress_ring {' '.join(arguments)}:\n{done.stderr}")
        counts["records"] += records
        counts["rings"] += 1
    show(f"{counts['records']:,} records through {counts['rings']} rings")
    return counts


def soak_pools(arguments: list[str], folder: Path, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A process that runs rounds of pools.

    Args:
        arguments: of rounds.py.
        folder: for its temporary files: an empty one.
        show: told, after each step, what rounds.py says.

    Returns:
        What rounds.py says at its end.

    Raises:
        FailedError: it found something, hangs, or leaves something in its temporary folder.
    """
    python_path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, str(HERE / "rounds.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": python_path},
    )
    said: queue.Queue[Optional[dict[str, Any]]] = queue.Queue()
    errors: list[str] = []

    def read_output() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.put(json.loads(line))
        said.put(None)

    def read_errors() -> None:
        assert process.stderr is not None
        errors.extend(process.stderr)

    readers = [threading.Thread(target=read, daemon=True) for read in (read_output, read_errors)]
    for reader in readers:
        reader.start()
    last: dict[str, Any] = {}
    hangs = False
    try:
        while (message := said.get(timeout=HANGS)) is not None:
            last = message
            if message["event"] == "step":
                show(message)
    except queue.Empty:
        hangs = True
        process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
    finally:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
    for reader in readers:
        reader.join(10)
    if hangs or process.returncode != 0:
        how = f"hangs after {last}" if hangs else f"ended with {process.returncode}"
        raise FailedError(f"rounds.py {' '.join(arguments)} {how}:\n{''.join(errors)}")
    left = os.listdir(folder)
    if left:
        raise FailedError(f"rounds.py {' '.join(arguments)} left temporary files: {left}")
    return last
