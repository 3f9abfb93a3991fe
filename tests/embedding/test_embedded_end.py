"""The end of a program that embeds Python: by itself and by signals, with threads and atexit functions."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from host_env import HostSprintEnv

import shmbridge

WAYS = ["iterate", "trainer", "loop"]


def zeros(features: Any) -> Any:
    """Return scores (time,8)."""
    return np.zeros((len(features), 8))


def own_module(sprint_env: HostSprintEnv, source: str) -> list[str]:
    """Write a user's module that re-exports sprint_entry; return the options for Sprint that name it."""
    (sprint_env.path / "own_entry.py").write_text(
        "from sprint_entry import *\nfrom sprint_entry import print\n"
        + f"OUT = {str(sprint_env.path / 'own.jsonl')!r}\n"
        + "import json\ndef note(what):\n    with open(OUT, 'a') as file:\n"
        + "        file.write(json.dumps(what) + '\\n')\n"
        + source,
        encoding="utf-8",
    )
    names = [f"{prefix}pymod-{what}" for prefix in ("", "python-segment-order-") for what in ("path", "name")]
    return [f"{name}={sprint_env.path if name.endswith('path') else 'own_entry'}" for name in names]


AT_EXIT = """
import atexit, threading
atexit.register(note, "first registered")
atexit.register(lambda: note(["threads", "shmbridge control" in [t.name for t in threading.enumerate()]]))
atexit.register(lambda: print("the last words", flush=True))
atexit.register(note, "last registered")
"""


def check_atexit(sprint_env: HostSprintEnv, log: list[str]) -> None:
    notes = noted(sprint_env)
    assert [note for note in notes if isinstance(note, str)] == ["last registered", "first registered"]
    assert any(line.endswith("the last words") for line in log)


def noted(sprint_env: HostSprintEnv) -> list[Any]:
    return [json.loads(line) for line in (sprint_env.path / "own.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_python_is_finalised_while_the_watcher_thread_runs(
    sprint_env: HostSprintEnv, way: str, sprint_log: Callable[[], list[str]]
) -> None:
    """A host that hangs fails the test, because exit_timeout is as long as a test may take."""
    for busy in (False, True, True):
        pool = sprint_env.pool(way, num_instances=2)
        if busy:
            sprint_env.check(pool, sprint_env.NAMES)
        sprint_log_before = len(sprint_log())
        pids = sprint_env.sprint_pids()
        pool.close()
        said = sprint_log()[sprint_log_before:]
        assert sum(line.endswith("host: done") for line in said) == len(pids) == 2
        assert not any("Fatal Python error" in line or "Exception ignored" in line for line in said)


def test_python_is_finalised_after_all_segments_are_scored(
    sprint_env: HostSprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool("score", num_instances=2) as pool:
        for _ in range(3):
            sprint_log_before = len(sprint_log())
            pool.serve_scores(zeros)
            said = sprint_log()[sprint_log_before:]
            assert sum(line.endswith("host: done") for line in said) == 2
            assert not any("Fatal Python error" in line or "Exception ignored" in line for line in said)


@pytest.mark.parametrize("way", WAYS)
def test_atexit_functions_run_in_reverse_order_after_the_segments(
    sprint_env: HostSprintEnv, way: str, sprint_log: Callable[[], list[str]]
) -> None:
    with sprint_env.pool(way, *own_module(sprint_env, AT_EXIT)) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        assert not (sprint_env.path / "own.jsonl").exists()
    check_atexit(sprint_env, sprint_log())


def test_atexit_functions_run_in_reverse_order_after_the_scores(
    sprint_env: HostSprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    too_early = []

    def score(features: Any) -> Any:
        too_early.append((sprint_env.path / "own.jsonl").exists())
        return zeros(features)

    with sprint_env.pool("score", *own_module(sprint_env, AT_EXIT)) as pool:
        pool.serve_scores(score)
    assert too_early == [False] * len(sprint_env.segments)
    check_atexit(sprint_env, sprint_log())


def test_an_exception_in_the_users_module_runs_atexit_and_exits_with_1(sprint_env: HostSprintEnv) -> None:
    options = own_module(
        sprint_env,
        """
import atexit
import shmbridge.child.connect as connect
atexit.register(note, "atexit")
class PythonControl(connect.PythonControl):
    def process_segment(self, name, **arguments):
        raise OSError("on purpose")
connect.PythonControl = PythonControl
""",
    )
    with sprint_env.pool("iterate", *options) as pool:
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            sprint_env.check(pool, sprint_env.NAMES[:1])
        assert caught.value.exit_code == 1
        assert any("OSError: on purpose" in line for line in caught.value.last_output)
        assert list(caught.value.segments) == sprint_env.NAMES[:1]
    assert noted(sprint_env)[0] == "atexit"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM])
def test_a_signal_to_sprints_group_ends_it_and_the_next_call_starts_a_new_one(
    sprint_env: HostSprintEnv, way: str, number: signal.Signals
) -> None:
    """Python installs no handlers in Sprint, so the signal ends Sprint at once, even while it sleeps."""
    with sprint_env.pool(way) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        (pid,) = sprint_env.sprint_pids()
        claim = pool.claim(
            sprint_env.NAMES[0], sprint_env.segments[sprint_env.NAMES[0]][1], sprint_env.LABELS
        )
        claim.posteriors[...] = -1
        os.killpg(pid, number)
        sprint_env.wait_gone([pid])
        with pytest.raises(shmbridge.PeerGoneError) as caught:
            claim.send().result()
        assert caught.value.signal_name == number.name
        sprint_env.check(pool, sprint_env.NAMES)
        assert sprint_env.sprint_pids() != [pid]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM])
def test_a_signal_ends_a_sprint_that_waits_for_scores_and_the_next_call_starts_a_new_one(
    sprint_env: HostSprintEnv, number: signal.Signals
) -> None:
    with sprint_env.pool("score") as pool:

        def kill(features: Any) -> Any:
            (pid,) = sprint_env.sprint_pids()
            os.killpg(pid, number)
            sprint_env.wait_gone([pid])
            return zeros(features)

        with pytest.raises(shmbridge.PeerGoneError) as caught:
            pool.serve_scores(kill)
        assert caught.value.signal_name == number.name
        pool.serve_scores(zeros)
        assert pool.stats().scored >= len(sprint_env.segments)


BATCH_SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("way", WAYS)
def test_signals_of_a_batch_system_to_sprints_group_do_not_end_it(
    sprint_env: HostSprintEnv, way: str
) -> None:
    with sprint_env.pool(way) as pool:
        (pid,) = sprint_env.sprint_pids()
        for number in BATCH_SIGNALS:
            sprint_env.check(pool, sprint_env.NAMES)
            os.killpg(pid, number)  # while it sleeps
        sprint_env.check(pool, sprint_env.NAMES)
        assert sprint_env.sprint_pids() == [pid]


def test_signals_of_a_batch_system_do_not_end_a_sprint_that_waits_for_scores(
    sprint_env: HostSprintEnv,
) -> None:
    with sprint_env.pool("score") as pool:

        def kill(features: Any) -> Any:
            (pid,) = sprint_env.sprint_pids()
            for number in BATCH_SIGNALS:
                os.killpg(pid, number)
            return zeros(features)

        pool.serve_scores(kill)
        assert pool.stats().scored == len(sprint_env.segments)


ASK = """
    loss, _ = pool.get_batch_loss_and_error_signal(np.full((3, 1, 8), -1.0), [3], ["corpus/rec/one"])
    say(float(loss[0]))
    sys.stdin.read()
"""
SERVE = """
    def score(features):
        say(float(features[0, 0]))
        sys.stdin.read()
    pool.serve_scores(score)
"""


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize(("way", "what"), [*((way, ASK) for way in WAYS), ("score", SERVE)])
def test_sprint_ends_after_the_trainer_is_killed_although_each_write_raises_sigpipe(
    sprint_env: HostSprintEnv, way: str, what: str, verbose: bool
) -> None:
    """SIGPIPE ends a program that embeds Python without its handlers, so the child must not write first."""
    body = "    pool = shmbridge.SprintInstancePool(**OPTIONS)" + what
    options = sprint_env.options(way, num_instances=2, sprint_control_config={"verbose": verbose})
    with sprint_env.trainer(body, options) as trainer:
        assert np.isfinite(sprint_env.said(trainer))
        pids = sprint_env.sprint_pids()
        pids = [pid for pid in pids if pid != trainer.pid]
        assert len(pids) == 2
        trainer.kill()
        trainer.wait()
        sprint_env.wait_gone(pids)
