"""A thread of the trainer that kills, stops and pauses Sprints, and forks the trainer, at random."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Optional

from plan import Plan

from support.internals import ChildProcess, children

_FORK_LIVES = 2.0  # seconds at most
_PATIENCE = 60.0  # seconds


class Forks:
    """Forks of this process, which must exit with 0.

    Thread-safety: may be used from several threads.
    """

    def __init__(self) -> None:
        self._pids: list[int] = []
        self._unraisable: list[str] = []
        self._lock = threading.Lock()
        # Python reports exceptions of hooks that run after a fork only here.
        sys.unraisablehook = lambda args: self._unraisable.append(f"{args.object!r}: {args.exc_value!r}")

    def fork(self, work: Callable[[], None]) -> int:
        """Run `work` in a fork, and return its pid. An exception there makes `reap` raise."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                gc.collect()
                if self._unraisable:
                    raise AssertionError(f"uncaught exceptions: {self._unraisable}")
                code = 0
            except BaseException:
                os.write(2, f"in a fork of the trainer: {traceback.format_exc()}".encode())
            finally:
                os._exit(code)
        with self._lock:
            self._pids.append(pid)
        return pid

    def reap(self) -> None:
        """Wait for all forks.

        Raises:
            AssertionError: a fork failed, or hangs.
        """
        with self._lock:
            pids, self._pids = self._pids, []
        for pid in pids:
            code = _wait_for(pid)
            if code != 0:
                raise AssertionError(f"fork {pid} of the trainer ended with {code}: see above")
        if self._unraisable:
            raise AssertionError(f"uncaught exceptions: {self._unraisable}")


class Disturber:
    """A thread that disturbs a pool until it is stopped.

    Args:
        plan: how often.
        rng: decides what and when.
        pool: the pool.
        forks: to make forks with.
        use_in_fork: called in a fork; must check that the pool cannot be used there.
        counts: kills, pauses and forks are counted here.
    """

    def __init__(
        self,
        plan: Plan,
        rng: random.Random,
        pool: Any,
        forks: Forks,
        use_in_fork: Callable[[], None],
        counts: Counter[str],
    ) -> None:
        self._plan = plan
        self._rng = rng
        self._pool = pool
        self._forks = forks
        self._use_in_fork = use_in_fork
        self._counts = counts
        self._error: Optional[BaseException] = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak disturber")
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and raise its error if it had one."""
        self.quit()
        if self._error is not None:
            raise self._error

    def quit(self) -> None:
        """End the thread, and ignore its error. May be called again."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            rates = {self._fork: 1 / self._plan.fork_every, self._pause: 1.0}
            if self._plan.kill_every is not None:
                rates[self._kill] = 1 / self._plan.kill_every
            for disturb in rates:  # so that a short round also has each of them
                disturb()
            while not self._stop.wait(self._rng.expovariate(sum(rates.values()))):
                self._rng.choices(list(rates), list(rates.values()))[0]()
        except BaseException as error:
            self._error = error

    def _kill(self) -> None:
        kills = [signal.SIGKILL, signal.SIGSEGV, signal.SIGALRM]
        if self._plan.segment_timeout is not None and self._rng.random() < 0.1:
            kills = [signal.SIGSTOP]
        if self._signal(self._rng.choice(kills), anybody=self._plan.kind == "lossy"):
            self._counts["kills"] += 1

    def _pause(self) -> None:
        child = self._signal(signal.SIGSTOP)
        if child is not None:
            time.sleep(self._rng.random() * 0.1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
            self._counts["pauses"] += 1

    def _signal(self, number: int, anybody: bool = False) -> Optional[ChildProcess]:
        """Send a signal to a random ready child, or to any child if `anybody`, and return the child."""
        child = self._rng.choice(children(self._pool))
        if not anybody:
            # Twice, because a child that is being replaced may still look ready.
            for _ in range(2):
                if not child.is_ready:
                    return None
                time.sleep(0.02)
        if child.has_exited:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
            return child
        return None

    def _fork(self) -> None:
        lives, uses = self._rng.random() ** 3 * _FORK_LIVES, self._rng.random() < 0.5

        def live() -> None:
            if uses:
                self._use_in_fork()
            time.sleep(lives)

        self._forks.fork(live)
        self._counts["forks"] += 1


def _wait_for(pid: int) -> int:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGABRT)  # faulthandler prints its stacks
            os.waitpid(pid, 0)
            raise AssertionError(f"fork {pid} of the trainer hangs: its stacks are above")
        time.sleep(0.01)
