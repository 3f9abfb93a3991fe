"""Fixtures for pools, for the conftest.py of each folder that needs them to import."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .leftovers import Watch, nothing_left_behind
from .sprint_env import SAFETY_NET, SprintEnv

__all__ = ["module_sprint_env", "sprint_env", "sprint_log", "watch_over_the_test"]


def _make_env(path: Path) -> SprintEnv:
    sprint_env = SprintEnv(path)
    (path / "tmp").mkdir()
    sprint_env.env["TMPDIR"] = str(path / "tmp")
    return sprint_env


@pytest.fixture
def sprint_env(tmp_path: Path) -> Iterator[SprintEnv]:
    """An environment for the pools of a test; checks that they leave nothing behind."""
    sprint_env = _make_env(tmp_path)
    with nothing_left_behind(sprint_env.mark, sprint_env.path / "tmp"):
        yield sprint_env


@pytest.fixture(scope="module")
def module_sprint_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SprintEnv]:
    """An environment for a pool that several tests of a module share."""
    sprint_env = _make_env(tmp_path_factory.mktemp("sprint_env"))
    with nothing_left_behind(sprint_env.mark, sprint_env.path / "tmp"):
        yield sprint_env


@pytest.fixture(autouse=True)
def watch_over_the_test(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Show Sprint's output if a test fails, fail a test that hangs, and check that nothing is left behind."""
    caplog.set_level("INFO", logger="shmbridge")

    def hangs(_number: int, _frame: Any) -> None:
        raise AssertionError(f"the test hangs: it has not ended after {SAFETY_NET} s")

    before = signal.signal(signal.SIGALRM, hangs)
    # Repeatedly, as clean-up may hang too.
    signal.setitimer(signal.ITIMER_REAL, SAFETY_NET, SAFETY_NET)
    watch = Watch()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    deadline = time.monotonic() + 10
    while (left := watch.left_behind()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, left


@pytest.fixture
def sprint_log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function for the lines that Sprint has written; it returns all once the pool is closed."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "shmbridge.sprint"]
