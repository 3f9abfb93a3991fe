"""Options reach Sprint as they are meant, although its parser interprets quotes and references.

RASR drops what is outside of the outermost quotes of a value, and replaces $(…), $[…] and `cf …`. refsprint
reads values as RASR does. Characters that a shell would interpret: test_security.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import shmbridge
from shmbridge import config as config_strings

QUOTED = ["it's", "o'clock's", 'a "b" c', '"', '"it\'s"', "'c'"]
REPLACED = {"$(x)": "$(", "$[1+1]": "$[", "`cf x`": "`cf "}
# Sprint reads its options as RASR does, prints some of them, and ends.
SPRINT = """
import json, sys
from shmbridge.refsprint.configuration import Configuration
options = Configuration.from_arguments(sys.argv[1:])
order = "python-segment-order"
names = ("pymod-path", f"{order}-pymod-path", "pymod-config", f"{order}-config", "user")
print(json.dumps([options.string(name) for name in names]))
"""


@pytest.fixture
def options(sprint_env) -> dict[str, Any]:
    path = sprint_env.path / "sprint.py"
    path.write_text(SPRINT, encoding="utf-8")
    return {"sprint_exec_path": [sys.executable, str(path)], "env": sprint_env.env}


def options_in_sprint(options: dict[str, Any]) -> list[str]:
    with pytest.raises(shmbridge.PeerGoneError) as ended:
        shmbridge.SprintInstancePool(**options)
    return json.loads(ended.value.last_output[-1])


# --- the folder in which shmbridge is installed

TRAINER = """
try:
    shmbridge.SprintInstancePool(**OPTIONS)
except shmbridge.PeerGoneError as error:
    say(json.loads(error.last_output[-1]))
except shmbridge.OptionError as error:
    say(str(error))
"""


def told_by_trainer(sprint_env, options: dict[str, Any], folder: Path) -> Any:
    """Copy the package into a folder, and start a pool from there in a trainer."""
    package = Path(shmbridge.__file__).resolve().parent
    shutil.copytree(package, folder / "shmbridge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package.parent / "sprint_entry.py", folder)
    _, tests = sprint_env.env["PYTHONPATH"].split(os.pathsep)
    sprint_env.env["PYTHONPATH"] = f"{folder}{os.pathsep}{tests}"
    with sprint_env.trainer(TRAINER, options) as trainer:
        return sprint_env.said(trainer)


@pytest.mark.parametrize("name", ["it's", 'a "b" c'])
def test_sprint_finds_shmbridge_in_a_folder_with_quotes(sprint_env, options, name):
    folder = sprint_env.path / name
    assert told_by_trainer(sprint_env, options, folder)[:2] == [str(folder), str(folder)]


@pytest.mark.parametrize("name", REPLACED)
def test_a_folder_of_shmbridge_that_sprint_would_change_is_refused(sprint_env, options, name):
    message = told_by_trainer(sprint_env, options, sprint_env.path / name)
    assert repr(str(sprint_env.path / name)) in message
    assert repr(REPLACED[name]) in message
    assert message.endswith("[command-line]")


# --- the config string


def test_settings_of_the_config_string_may_contain_quotes(options):
    given = {f"note{index}": value for index, value in enumerate(QUOTED)}
    for settings in (given, {"it's": "a key"}, {'a"b': "a key"}, {"'": ""}):
        options["sprint_control_config"] = settings
        _, _, config, order_config, _ = options_in_sprint(options)
        assert settings.items() <= config_strings.parse(config).items()
        assert order_config == config


@pytest.mark.parametrize("text", REPLACED)
@pytest.mark.parametrize("place", ["key", "value"])
def test_a_setting_that_sprint_would_change_is_refused(options, text, place):
    settings = {"a": f"b {text}"} if place == "value" else {f"a {text}": "b"}
    options["sprint_control_config"] = settings
    with pytest.raises(shmbridge.OptionError, match=r"\[control-config\]$") as refused:
        shmbridge.SprintInstancePool(**options)
    for part in (*next(iter(settings.items())), REPLACED[text]):
        assert repr(part) in str(refused.value)


# --- the user's own options


@pytest.mark.parametrize(
    ("value", "meant"), [("plain", "plain"), ('"it\'s"', "it's"), ("'$(home)'", "/h"), ('"a" "b"', 'a" "b')]
)
def test_the_users_options_keep_the_meaning_that_sprint_gives_them(options, value, meant):
    options["sprint_config"] = ["--*.home=/h", f"--*.user={value}"]
    assert options_in_sprint(options)[-1] == meant


@pytest.mark.parametrize(
    ("value", "rest"), [("it's", "s"), ("/o'clock's/x", "clock"), ('"', ""), ('a "b"', "b"), ("'a' b", "a")]
)
def test_an_option_of_which_sprint_would_drop_a_part_is_refused(options, value, rest):
    options["sprint_config"] = [f"--*.user={value}"]
    with pytest.raises(shmbridge.OptionError, match=r"\[command-line\]$") as refused:
        shmbridge.SprintInstancePool(**options)
    assert repr(f"--*.user={value}") in str(refused.value)
    assert repr(rest) in str(refused.value)


# --- the executable


def test_options_from_a_generator_reach_sprint_and_its_replacement(options):
    words = ["--*.user=first", "--*.user=second"]
    options["sprint_config"] = (word for word in words)
    options["sprint_exec_path"] = (word for word in options["sprint_exec_path"])
    assert options_in_sprint(options)[-1] == "second"


def test_options_as_a_mapping_are_refused(options):
    options["sprint_config"] = {"--*.user": "x"}
    with pytest.raises(shmbridge.OptionError, match="it is a mapping"):
        shmbridge.SprintInstancePool(**options)


def test_a_restart_uses_the_options_of_the_start(sprint_env, monkeypatch):
    settings, env = {"note": "first"}, dict(sprint_env.env)
    options = sprint_env.options("loop", sprint_control_config=settings, max_restarts=1)
    python, *arguments = options["sprint_exec_path"]
    monkeypatch.chdir(Path(python).parent)
    options["sprint_exec_path"] = [f"./{Path(python).name}", *arguments]
    with shmbridge.SprintInstancePool(**{**options, "env": env}) as pool:
        settings["note"] = "a,b"
        env["PYTHONPATH"] = "/nowhere"
        monkeypatch.chdir(sprint_env.path)
        (pid,) = sprint_env.sprint_pids()
        os.kill(pid, signal.SIGKILL)
        sprint_env.check(pool, sprint_env.NAMES)
        (pid,) = sprint_env.sprint_pids()
        assert b"note:first" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_users_home_may_be_abbreviated(sprint_env, options, monkeypatch):
    monkeypatch.setenv("HOME", str(sprint_env.path))
    sprint_env.executable(f"#!{sys.executable}\n{SPRINT}", "home sprint")
    options.update(sprint_exec_path="~/home sprint", sprint_config=["--*.user=x"])
    assert options_in_sprint(options)[-1] == "x"


def test_scripts_of_the_running_python_need_not_be_on_path(sprint_env, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which("refsprint") is None
    options = sprint_env.options("loop", sprint_exec_path="refsprint")
    with shmbridge.SprintInstancePool(**options) as pool:
        sprint_env.check(pool, sprint_env.NAMES)


def test_an_executable_that_is_nowhere_is_an_error_with_the_folders_that_were_searched(
    sprint_env, monkeypatch
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(sprint_env.path)
    with pytest.raises(shmbridge.OptionError, match=r"'nn-trainer-x'.*/usr/bin:/bin") as missing:
        shmbridge.SprintInstancePool("nn-trainer-x")
    assert str(Path(sys.executable).parent) in str(missing.value)
    assert "'./'" not in str(missing.value)
    sprint_env.executable("", "nn-trainer-x")
    with pytest.raises(shmbridge.OptionError, match=r"working directory, write './'"):
        shmbridge.SprintInstancePool("nn-trainer-x")


LONG = "x" * (200 << 10)  # Linux passes at most 128 KiB in one argument


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ({"sprint_config": [f"--*.user={LONG}"]}, "'--*.user=xxx"),
        ({"sprint_control_config": {"note": LONG}}, "'--*.python-segment-order-config="),
        ({"env": {"LONG": LONG}}, "'LONG'"),
        ({"sprint_config": [f"--*.user{number}={LONG[:100000]}" for number in range(80)]}, "'--*.user"),
    ],
)
def test_a_command_line_beyond_the_limit_of_the_system_is_an_error_that_advises_a_file(
    options, given, culprit
):
    with pytest.raises(shmbridge.OptionError, match=r"--config=FILE.*\[command-line\]$") as refused:
        shmbridge.SprintInstancePool(**{**options, **given})
    assert culprit in str(refused.value)
    assert len(str(refused.value)) < 1000
