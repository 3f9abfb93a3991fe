"""A long wait is logged with its reason and its duration."""

from __future__ import annotations

import math
import re
import threading
import time
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.internals import children, log_long_waits_every
from support.sprint_env import SprintEnv


class Held:
    """A Sprint that does not start, or does not answer, while a file exists."""

    def __init__(self, sprint_env: SprintEnv) -> None:
        self.start = sprint_env.path / "start"
        self.segment = sprint_env.path / "segment"
        self.options = sprint_env.sprint_file("held", {"start": self.start, "segment": self.segment})

    def pool(self) -> shmbridge.SprintInstancePool:
        return shmbridge.SprintInstancePool(**self.options)


@pytest.fixture
def held(sprint_env: SprintEnv) -> Held:
    return Held(sprint_env)


class Lines:
    """Collect the log lines that contain a text, and remove a file after a number of them."""

    def __init__(self, caplog: pytest.LogCaptureFixture, text: str) -> None:
        self._caplog = caplog
        self._text = text

    def __call__(self) -> list[str]:
        return [line for line in self._caplog.messages if self._text in line]

    def release(self, sprint_env: SprintEnv, path: Any, number: int) -> threading.Thread:
        def run() -> None:
            try:
                sprint_env.wait_until(
                    lambda: len(self()) >= number, f"{self._text!r} is logged {number} times"
                )
            finally:
                path.unlink()

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def batch(pool: shmbridge.SprintInstancePool) -> None:
    loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
    assert loss.tolist() == [1.5]


def test_children_that_are_starting_are_logged(
    sprint_env: SprintEnv, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    lines = Lines(caplog, "has been starting for")
    held.start.touch()
    with log_long_waits_every(0.05):
        thread = lines.release(sprint_env, held.start, 3)
        with held.pool() as pool:
            thread.join()
            assert all(f"(pid {pool.stats().children[0].pid}) has been" in line for line in lines())
            count = len(lines())
            batch(pool)
            assert len(lines()) == count


def test_a_segment_that_takes_long_is_logged_each_time_that_its_age_has_doubled(
    sprint_env: SprintEnv, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    lines = Lines(caplog, "[slow-segment]")
    with held.pool() as pool, log_long_waits_every(0.02, long=0.2):
        batch(pool)
        assert not lines()
        held.segment.touch()
        thread = lines.release(sprint_env, held.segment, 3)
        begin = time.monotonic()
        batch(pool)
        seconds = time.monotonic() - begin
        thread.join()
        (child,) = children(pool)
        for line in lines():
            assert re.search(rf"\(pid {child.pid}\) has worked on segment 'c/s1' for \d+ s", line)
        assert all(record.levelname == "WARNING" for record in caplog.records if record.message in lines())
        assert len(lines()) <= 1 + math.log2(seconds / 0.2)  # at 0.2, 0.4, 0.8 s, …
        count = len(lines())
        batch(pool)
        assert len(lines()) == count
