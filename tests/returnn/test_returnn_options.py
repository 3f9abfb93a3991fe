"""The sprint_opts of users' configs have the same meaning as with RETURNN alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from returnn_env import Returnn

import shmbridge


@pytest.fixture
def config(returnn: Returnn) -> Any:
    """RETURNN's global config, restored after the test."""
    from returnn import config as returnn_config

    before = returnn_config.get_global_config(raise_exception=False)
    config = returnn_config.Config()
    returnn_config.set_global_config(config)
    yield config
    returnn_config._global_config = before


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


CONFIGS: dict[str, Callable[[list[str]], Any]] = {
    "a string": lambda words: " ".join(f"'{word}'" for word in words),
    "a list": list,
    "a callable": lambda words: lambda: list(words),
    "a callable that returns a string": lambda words: lambda: " ".join(words),
    "a list with callables": lambda words: [words[0], *((lambda word=word: word) for word in words[1:])],
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("named", [False, True])
def test_sprints_options_may_have_any_form_that_returnn_accepts(
    returnn: Returnn, config: Any, kind: str, named: bool
) -> None:
    value = CONFIGS[kind](returnn.sprint_config("loop"))
    if named:
        config.typed_dict["sprint_config"] = value
        value = "config:sprint_config"
    returnn.check(returnn.pool("loop", sprintConfigStr=value), returnn.sprint_env.NAMES[:2])


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("named", [False, True])
def test_from_returnn_evaluates_sprints_options_as_returnn_does(
    returnn: Returnn, config: Any, kind: str, named: bool
) -> None:
    value = CONFIGS[kind](returnn.sprint_config("loop"))
    if named:
        config.typed_dict["sprint_config"] = value
        value = "config:sprint_config"
    more = {"ring_size": 1 << 20, "env": returnn.sprint_env.env, "sprintConfigStr": value}
    with shmbridge.SprintInstancePool.from_returnn(returnn.sprint_opts("loop", **more)) as pool:
        returnn.check(pool, returnn.sprint_env.NAMES[:2])


def test_environment_variables_are_replaced(returnn: Returnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINT_OPTIONS", " ".join(returnn.sprint_config("loop")))
    monkeypatch.delenv("SPRINT_MISSING", raising=False)
    pool = returnn.pool("loop", sprintConfigStr="--*.first=$HOME $SPRINT_OPTIONS $SPRINT_MISSING --*.last=1")
    returnn.check(pool, returnn.sprint_env.NAMES[:2])
    words = [word for word in command_line(returnn.sprint_env.sprint_pids()[0]) if word]
    assert "--*.first=$HOME" in words  # RETURNN replaces only words that begin with $
    assert words[-1] == "--*.last=1"


def test_settings_become_part_of_the_config_string(returnn: Returnn) -> None:
    pool = returnn.pool(
        "loop", minPythonControlVersion=4, sprintControlConfig={"verbose": True, "unknown": "a:b"}
    )
    returnn.check(pool, returnn.sprint_env.NAMES[:2])
    (given,) = [
        word
        for word in command_line(returnn.sprint_env.sprint_pids()[0])
        if word.startswith("--*.pymod-config=")
    ]
    for setting in ("minPythonControlVersion:4", "verbose:True", "unknown:a:b", "c2p_fd:", "p2c_fd:"):
        assert setting in given


def test_a_sprint_that_is_too_old_is_an_error_with_the_version(returnn: Returnn) -> None:
    with pytest.raises(shmbridge.PeerGoneError, match="99"):
        returnn.check(returnn.pool("loop", minPythonControlVersion=99), returnn.sprint_env.NAMES[:2])


@pytest.mark.parametrize("number", [2, "2", 2.0])
def test_the_number_of_instances_may_be_a_string(returnn: Returnn, number: Any) -> None:
    returnn.check(returnn.pool("loop", numInstances=number), returnn.sprint_env.NAMES)
    assert len(returnn.sprint_env.sprint_pids()) == 2


def test_options_may_have_shmbridges_names(returnn: Returnn) -> None:
    from returnn.sprint.error_signals import SprintInstancePool

    pool = SprintInstancePool.get_global_instance({**returnn.sprint_env.options("loop"), "num_instances": 2})
    returnn.check(pool, returnn.sprint_env.NAMES)
    assert len(returnn.sprint_env.sprint_pids()) == 2


def test_an_executable_in_the_working_directory_needs_no_path(
    returnn: Returnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(os.path.dirname(returnn.executable))
    name = os.path.basename(returnn.executable)
    returnn.check(returnn.pool("loop", sprintExecPath=name), returnn.sprint_env.NAMES[:2])
    returnn.check(returnn.pool("loop", sprintExecPath=f"./{name}"), returnn.sprint_env.NAMES[:2])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown option": ({"sprintExecutable": "x"}, "sprintExecutable"),
    "no such executable": ({"sprintExecPath": "/no/such/nn-trainer"}, "/no/such/nn-trainer"),
    "a missing setting": ({"sprintConfigStr": "config:nothing"}, "'nothing'"),
    "an unclosed quote": ({"sprintConfigStr": "--*.a='b"}, "--*.a='b"),
    "a number": ({"sprintConfigStr": 5}, "5"),
    "a list with a number": ({"sprintConfigStr": ["--*.a=b", 5]}, "5"),
    "one option under two names": ({"sprint_exec_path": "x"}, "twice"),
}


@pytest.mark.parametrize(
    ("sprint_opts", "expected"),
    [
        ({"sprintExecPath": "true", 5: "x"}, "the name 5"),
        ({"sprintExecPath": "true", None: "x"}, "the name None"),
        ({"sprintExecPath": "true", b"numInstances": 1}, "the name b'numInstances'"),
        ("sprint_opts", "sprint_opts is 'sprint_opts'"),
        (None, "sprint_opts is None"),
        ({}, "sprint_exec_path is missing"),
    ],
)
def test_sprint_opts_that_are_not_a_mapping_of_str_are_refused(sprint_opts: Any, expected: str) -> None:
    with pytest.raises(shmbridge.OptionError, match=re.escape(expected)):
        shmbridge.SprintInstancePool.from_returnn(sprint_opts)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_errors_that_quote_them(returnn: Returnn, config: Any, case: str) -> None:
    options, expected = WRONG[case]
    with pytest.raises(shmbridge.OptionError) as raised:
        returnn.check(returnn.pool("loop", **options), returnn.sprint_env.NAMES[:2])
    assert expected in str(raised.value)


def test_a_named_setting_without_a_config_is_an_error(
    returnn: Returnn, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from returnn import config as returnn_config

    monkeypatch.setattr(returnn_config, "_global_config", None)
    with pytest.raises(shmbridge.OptionError, match="no config"):
        returnn.check(returnn.pool("loop", sprintConfigStr="config:x"), returnn.sprint_env.NAMES[:2])


def test_an_exception_of_a_callable_is_not_wrapped(returnn: Returnn) -> None:
    def fails() -> str:
        raise FileNotFoundError("no lexicon here")

    with pytest.raises(FileNotFoundError, match="no lexicon here"):
        returnn.check(returnn.pool("loop", sprintConfigStr=fails), returnn.sprint_env.NAMES[:2])
