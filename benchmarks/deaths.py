"""Deaths: how soon after Sprint's death the waiting call raises its error.

    python -m benchmarks.deaths [--deaths=100] [--signal=SIGKILL]

Sprint is killed while it sleeps in its criterion, so the trainer sleeps too. The measured time starts just
before the signal and ends when the caller has the error. It includes the kernel's work to end the process.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import Any

from shmbridge import PeerGoneError

from .percentiles import summarise
from .processes import children_of
from .progress import Progress
from .sprint import open_pool
from .terminal import Bar

_SHAPE = (100, 1000)
_SETTLE = 0.05  # seconds until both sides sleep


def measure(deaths: int, number: signal.Signals, progress: Progress) -> dict[str, Any]:
    """Kill a number of Sprints, one after the other. Return percentiles in seconds."""
    progress.begin("deaths", deaths)
    frames, labels = _SHAPE
    durations = []
    with open_pool(4 * frames * labels, criterion="sleep:1000000") as pool:
        for _ in range(deaths):
            claim = pool.claim("corpus/recording/segment", frames, labels)  # restarts a dead Sprint
            claim.posteriors[:] = -1
            sent_segment = claim.send()
            (pid,) = children_of(os.getpid())
            sent: list[int] = []
            thread = threading.Thread(target=_kill, args=(pid, number, sent))
            thread.start()
            try:
                sent_segment.result()
                raise RuntimeError("Sprint answered; it must sleep until it is killed")
            except PeerGoneError as error:
                noticed = time.perf_counter_ns()
                if error.signal_name != number.name:
                    raise
            thread.join()
            durations.append(noticed - sent[0])
            progress.advance(f"{len(durations)} of {deaths}")
    return summarise(durations)


def _kill(pid: int, number: signal.Signals, sent: list[int]) -> None:
    time.sleep(_SETTLE)
    sent.append(time.perf_counter_ns())
    os.kill(pid, number)


def main() -> int:
    """Measure, and print one line."""
    from rich.console import Console

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deaths",
        description="Measure how soon Sprint's death raises an error in the trainer.",
    )
    parser.add_argument("--deaths", type=int, default=100, help="number of deaths (default: %(default)s)")
    names = ("SIGKILL", "SIGSEGV", "SIGABRT")
    parser.add_argument(
        "--signal", choices=names, default="SIGKILL", help="that kills Sprint (default: %(default)s)"
    )
    options = parser.parse_args()
    number = signal.Signals[options.signal]
    console = Console(highlight=False)
    with Bar(console) as bar:
        times = measure(options.deaths, number, bar)
    figures = ", ".join(f"{name} {1e3 * times[name]:.2f} ms" for name in ("min", "p50", "p90", "p99"))
    console.print(f"from {number.name} to the error in the trainer, {times['count']} deaths: {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
