"""Other users have no access, and no shell interprets options or names.

That the package has no pickle, eval, exec or shell: tests/package/test_package.py. Mode and name of the
memory, and what is inherited: tests/bridge/test_processes.py.
"""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest

import shmbridge

NOBODY = 65534
SPRINT = """
SEEN["arguments"] = sys.argv[1:]
SEEN["environment"] = os.environ.get("SHMBRIDGE_STRANGE")
init().run_control_loop(callback=callback)
"""


def as_nobody(*command):
    other = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return subprocess.run(command, **other, capture_output=True, check=False)


def test_another_user_cannot_open_memory_or_pipes(sprint_env):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    before = set(os.listdir("/dev/shm"))
    with sprint_env.scripted_pool(SPRINT) as pool:
        pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4), np.float32), [3], ["c/s1"])
        assert not {name for name in set(os.listdir("/dev/shm")) - before if not name.startswith("psm_")}
        for pid in (os.getpid(), *sprint_env.sprint_pids()):
            assert as_nobody("cat", f"/proc/{pid}/stat").returncode == 0  # it can run commands, and sees it
            for path in (f"/proc/{pid}/fd", f"/proc/{pid}/map_files"):
                listed = as_nobody("ls", path)
                assert listed.returncode != 0
                assert b"ermission denied" in listed.stderr
            for number in os.listdir(f"/proc/{pid}/fd"):
                opened = as_nobody("head", "-c", "1", f"/proc/{pid}/fd/{number}")
                assert opened.returncode != 0
                assert opened.stdout == b""
            assert as_nobody("head", "-c", "1", f"/proc/{pid}/mem").returncode != 0
            assert as_nobody("kill", "-0", str(pid)).returncode != 0


STRANGE = [
    "$(touch touched)",
    "`touch touched`",
    "; touch touched",
    "&& touch touched",
    "| touch touched",
    "> touched",
    "*",
    "~",
    "$HOME",
    "a b\tc",
    "line\nbreak",
    "'quotes\"",
    "back\\slash",
    "",
    "grün 日本",
    "%s%n",
    "--*.pymod-config=c2p_fd:0",
]


def test_options_with_characters_special_to_a_shell_reach_sprint_verbatim(sprint_env, monkeypatch):
    monkeypatch.chdir(sprint_env.path)
    words = [f"--strange{index}={word}" for index, word in enumerate(STRANGE)]
    options = sprint_env.scripted(SPRINT, sprint_config=words)
    options["env"] = {**options["env"], "SHMBRIDGE_STRANGE": "$(touch touched); `touch touched`"}
    with shmbridge.SprintInstancePool(**options):
        pass
    seen = sprint_env.seen()
    assert seen["arguments"][-len(STRANGE) :] == words
    assert seen["environment"] == "$(touch touched); `touch touched`"
    assert not (sprint_env.path / "touched").exists()


def test_a_config_string_is_split_into_words_and_not_expanded(sprint_env, monkeypatch):
    monkeypatch.chdir(sprint_env.path)
    config = """--a=$(touch touched) --b='c d;e' --f="$HOME" --g=`touch touched` --h=* ; touch touched"""
    with sprint_env.scripted_pool(SPRINT, sprint_config=config):
        pass
    words = ["--a=$(touch", "touched)", "--b=c d;e", "--f=$HOME", "--g=`touch", "touched`", "--h=*"]
    assert sprint_env.seen()["arguments"][-10:] == [*words, ";", "touch", "touched"]
    assert not (sprint_env.path / "touched").exists()


def test_a_segment_name_with_special_characters_is_only_a_name(sprint_env, monkeypatch):
    monkeypatch.chdir(sprint_env.path)
    with sprint_env.scripted_pool(SPRINT) as pool:
        names = [f"c/{word}" for word in STRANGE]
        posteriors = np.ones((3, len(names), 4), np.float32)
        loss, _ = pool.get_batch_loss_and_error_signal(posteriors, [3] * len(names), names)
        assert (loss == 1.5).all()
    assert not (sprint_env.path / "touched").exists()
