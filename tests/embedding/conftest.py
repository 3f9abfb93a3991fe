"""The fixtures of tests/bridge, with the host in place of Sprint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import build_host
import pytest
from host_env import HostSprintEnv

from support.fixtures import sprint_log, watch_over_the_test
from support.leftovers import nothing_left_behind

__all__ = ["sprint_log", "watch_over_the_test"]


@pytest.fixture(scope="session")
def host_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host, built for this Python. Skips the test if it cannot be built, but fails in CI."""
    try:
        return build_host.build(tmp_path_factory.mktemp("host"))
    except build_host.CannotBuildError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the host cannot be built: {error}")


@pytest.fixture
def sprint_env(tmp_path: Path, host_program: Path) -> Iterator[HostSprintEnv]:
    """An environment for pools of hosts; checks afterwards that they leave nothing behind."""
    sprint_env = HostSprintEnv(tmp_path, host_program)
    (tmp_path / "tmp").mkdir()
    sprint_env.env["TMPDIR"] = str(tmp_path / "tmp")
    with nothing_left_behind(sprint_env.mark, tmp_path / "tmp"):
        yield sprint_env
