"""Idle: the cost of an idle parent and child.

The parent is a separate process, because this one draws a progress bar.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from .peers.child import ROOT
from .processes import children_of, cpu_seconds, switches
from .progress import Progress

_SETTLE = 0.3  # seconds for the work that the last exchange leaves behind
_END_TIMEOUT = 20.0


def measure(seconds: float, progress: Progress) -> dict[str, Any]:
    """Measure an idle parent and its child for a number of seconds.

    Returns:
        For "parent" and "child": the CPU seconds used, and the number of context switches.
    """
    progress.begin("idle", 1)
    progress.advance(f"for {seconds:g} s")
    parent = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        if parent.stdout is None or not parent.stdout.readline():
            raise RuntimeError("the idle parent did not start; see its output above")
        (child,) = children_of(parent.pid)
        pids = {"parent": parent.pid, "child": child}
        time.sleep(_SETTLE)
        before = {name: (cpu_seconds(pid), switches(pid)) for name, pid in pids.items()}
        time.sleep(seconds)
        after = {name: (cpu_seconds(pid), switches(pid)) for name, pid in pids.items()}
    finally:
        # The parent ends, with its child, at the end of its input.
        try:
            parent.communicate(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            parent.kill()
            parent.wait()
    result: dict[str, Any] = {"seconds": seconds}
    for name in pids:
        result[name] = {
            "cpu_seconds": after[name][0] - before[name][0],
            "switches": after[name][1] - before[name][1],
        }
    return result


def _be_idle() -> None:
    """Run as the parent: do a few exchanges, then nothing until the input ends."""
    from .peers import Work
    from .peers.shmbridge_in_place import InPlace

    with InPlace(Work(100, 1000)) as peer:
        for _ in range(100):
            peer.round_trip(1.0)
        print("idle", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _be_idle()
