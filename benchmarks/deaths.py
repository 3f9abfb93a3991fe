"""Deaths: how long after Sprint's end the call that waits for it raises its error.

    python -m benchmarks.deaths [--deaths=100] [--signal=SIGKILL]

Sprint sleeps in its criterion when it is killed, so that the trainer sleeps too. The time runs from just
before the signal is sent to the error in the caller's hands; the kernel's work at a process' end is in it.
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
    """Kill so many Sprints, one after the other; percentiles in seconds."""
    progress.begin("deaths", deaths)
    frames, labels = _SHAPE
    durations = []
    with open_pool(4 * frames * labels, criterion="sleep:1000000") as pool:
        for _ in range(deaths):
            claim = pool.claim("corpus/recording/segment", frames, labels)  # starts a dead Sprint anew
            claim.posteriors[:] = -1
            segment = claim.send()
            (pid,) = children_of(os.getpid())
            sent: list[int] = []
            thread = threading.Thread(target=_kill, args=(pid, number, sent))
            thread.start()
            try:
                segment.result()
                raise RuntimeError("Sprint answered, though it was to sleep")
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
    """Measure, and print a line."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m benchmarks.deaths", description=measure.__doc__)
    parser.add_argument("--deaths", type=int, default=100, help="how many; default: %(default)s")
    names = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM")
    parser.add_argument("--signal", choices=names, default="SIGKILL", help="default: %(default)s")
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
