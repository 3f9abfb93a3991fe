"""Other code of the trainer takes the exit status of Sprint: it is unknown, and never that of a success."""

from __future__ import annotations

import pytest

QUICK = "init().run_control_loop(callback=callback)"

TAKERS = [
    "SIGCHLD is ignored",
    "a signal handler waits",
    "a thread waits",
]  # of trainer_without_exit_status.py


def run(sprint_env, taker, what, options):
    return sprint_env.trainer_file("trainer_without_exit_status", options, taker=taker, run=what)


def check(exit_code, signal_name, message, taker):
    assert exit_code is None
    assert signal_name in (None, "SIGKILL")
    assert signal_name is None or taker != "SIGCHLD is ignored"
    expected = "took its exit status: SIGCHLD is ignored" if signal_name is None else "was ended by SIGKILL"
    assert expected in message


@pytest.mark.parametrize("taker", TAKERS)
def test_a_killed_sprint_is_never_reported_as_exited(sprint_env, taker):
    with run(sprint_env, taker, "kill with segments", sprint_env.scripted(QUICK)) as trainer:
        for _ in range(5):
            check(*sprint_env.said(trainer), taker)
        assert sprint_env.said(trainer) == "closed"


@pytest.mark.parametrize("taker", TAKERS)
def test_a_recogniser_that_is_killed_has_not_finished_its_corpus(sprint_env, taker):
    options = sprint_env.sprint_file("killed_recogniser", {}, use_python_segment_order=False)
    with run(sprint_env, taker, "serve scores", options) as trainer:
        check(*sprint_env.said(trainer), taker)


@pytest.mark.parametrize("taker", TAKERS)
def test_a_sprint_that_ends_at_once_is_gone(sprint_env, taker):
    with run(sprint_env, taker, "end at once", {}) as trainer:
        for _ in range(10):
            exit_code, signal_name = sprint_env.said(trainer)
            assert exit_code in (None, 0)
            assert exit_code is None or taker != "SIGCHLD is ignored"
            assert signal_name is None
        assert sprint_env.said(trainer) == 0
