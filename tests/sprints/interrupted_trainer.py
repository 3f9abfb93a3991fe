"""A trainer that a signal interrupts while its main thread waits. The setting `wait` is a key of WAITS."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import shmbridge
from support.trainer import OPTIONS, SETTINGS, say

Pool = shmbridge.SprintInstancePool
at_work = threading.Event()
threads: list[threading.Thread] = []


def run_batch(pool: Pool) -> None:
    """Run a batch, which Sprint does not answer."""
    pool.get_batch_loss_and_error_signal(np.ones((3, 2, 4)), [3, 3], ["c/s1", "c/s2"])


def run_in_thread(pool: Pool) -> None:
    """Run a batch in another thread."""

    def run() -> None:
        at_work.set()
        try:
            run_batch(pool)
        except shmbridge.ClosedError as error:
            say(["in the thread", str(error)])

    threads.append(threading.Thread(target=run))
    threads[-1].start()


def wait_for_result(pool: Pool) -> None:
    """Wait for a result in place."""
    claim = pool.claim("c/s1", 3, 4)
    claim.posteriors[:] = 1
    claim.send().result()


def wait_for_room(pool: Pool) -> None:
    """Claim and send until the ring is full."""
    while True:
        claim = pool.claim("c/s1", 300, 100)
        claim.posteriors[:] = 1
        claim.send()


def wait_for_thread(pool: Pool) -> None:
    """Wait for a thread that waits for Sprint."""
    run_in_thread(pool)
    threads[-1].join()


def wait_for_lock(pool: Pool) -> None:
    """Run a batch while another thread does."""
    run_in_thread(pool)
    at_work.wait()
    run_batch(pool)


def use_two_pools(pool: Pool) -> None:
    """Run a batch in another pool's thread, and one here."""
    with Pool(**OPTIONS) as other:
        run_in_thread(other)
        run_batch(pool)


WAITS: dict[str, Callable[[Pool], None]] = {
    "a batch": run_batch,
    "a result in place": wait_for_result,
    "room for a claim": wait_for_room,
    "worker threads that wait": wait_for_thread,
    "the pool's lock, which a worker thread holds": wait_for_lock,
    "two pools": use_two_pools,
}


def interrupt(number: int, _frame: Any) -> None:
    """Handle SIGTERM as Python handles SIGINT."""
    raise KeyboardInterrupt(number)


signal.signal(signal.SIGTERM, interrupt)
try:
    with Pool(**OPTIONS) as pool:
        WAITS[SETTINGS["wait"]](pool)
except KeyboardInterrupt:
    for thread in threads:
        thread.join()
    say(["in the main thread", pool.closed])
