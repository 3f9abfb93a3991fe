"""Sprint's output fails: not ASCII, closed, or on a full disk. Sprint answers its segments all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from host_env import HostSprintEnv

WAYS = ["iterate", "trainer", "loop"]


@pytest.mark.parametrize("way", WAYS)
def test_names_that_are_not_ascii_are_printed_with_escapes_where_the_output_is_ascii(
    sprint_env: HostSprintEnv, way: str, sprint_log: Callable[[], list[str]]
) -> None:
    env = {**sprint_env.env, "LC_ALL": "C"}
    with sprint_env.pool(way, sprint_control_config={"verbose": True}, env=env) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
    if way != "loop":
        assert any(r"corpus/rec/gr\xf6\xdfe" in line for line in sprint_log())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("output", [">/dev/full 2>&1", ">&- 2>&-"])
def test_an_output_that_is_full_or_closed_does_not_end_sprint(
    sprint_env: HostSprintEnv, way: str, output: str
) -> None:
    wrapper = sprint_env.executable(f'#!/bin/sh\nexec {sprint_env.program} "$@" {output}\n')
    verbose = {"verbose": True}
    with sprint_env.pool(way, sprint_exec_path=wrapper, sprint_control_config=verbose) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        sprint_env.check(pool, sprint_env.NAMES)
