"""Forks, signals, and a pool as other processes see it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.sprint_env import SprintEnv


def in_fork(work: Callable[[], None]) -> int:
    """Run `work` in a fork and return its pid. The fork exits with 0 if `work` returns."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(0)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended_well(pid: int) -> bool:
    return os.waitpid(pid, 0)[1] == 0


# --- forks of the trainer's process


def test_in_a_fork_every_use_of_the_pool_is_an_error_that_says_what_to_do(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop", num_instances=2) as pool:
        sent = pool.claim(sprint_env.NAMES[0], 3, 4)
        sent.posteriors[:] = -1
        result = sent.send().result()
        view = result.error_signal
        values = view.copy()
        unsent = pool.claim(sprint_env.NAMES[0], 3, 4)
        unsent.posteriors[:] = -1

        def work() -> None:
            for call in (
                lambda: sprint_env.check(pool, sprint_env.NAMES),
                lambda: pool.get_automata_for_batch(sprint_env.NAMES),
                lambda: pool.claim(sprint_env.NAMES[0], 3, 4),
                unsent.send,
            ):
                with pytest.raises(shmbridge.UsageError, match="of which this one is a fork"):
                    call()
            pool.close()
            assert (view == values).all()

        assert ended_well(in_fork(work))
        with unsent.send().result() as again:
            assert np.isfinite(again.loss)
        assert (view == values).all()
        sprint_env.check(pool, sprint_env.NAMES)
        assert len(sprint_env.sprint_pids()) == 2


def test_a_fork_that_drops_its_copies_of_pool_claims_and_results_does_not_affect_the_trainer(
    sprint_env: SprintEnv,
) -> None:
    with sprint_env.pool("loop") as pool:
        held: dict[str, Any] = {"result": pool.claim("kórpus/rec/one", 3, 4)}
        held["result"].posteriors[:] = -1
        held["view"] = held["result"].send().result().error_signal
        held["unsent"] = pool.claim("kórpus/rec/two", 5, 4)
        held["unsent"].posteriors[:] = -1
        values = held["view"].copy()

        def work() -> None:
            import gc

            held.clear()
            gc.collect()

        assert ended_well(in_fork(work))
        with held["unsent"].send().result() as result:
            assert np.isfinite(result.loss)
        for _ in range(20):
            sprint_env.check(pool, sprint_env.NAMES)
        assert (held["view"] == values).all()
        held.clear()


def test_the_end_of_a_fork_does_not_end_sprint(sprint_env: SprintEnv) -> None:
    options = sprint_env.options("loop", num_instances=2)
    with sprint_env.trainer_file("trainer_with_forks", options) as trainer:
        before = None
        for how in ("os._exit", "sys.exit", "close", "kill"):
            said = sprint_env.said(trainer)
            assert said[0] == how
            assert np.isfinite(said[1])
            pids = [pid for pid in sprint_env.sprint_pids() if pid != trainer.pid]
            if before is not None and how != "kill":  # after the last one the trainer may be ending
                assert pids == before
            before = pids
        trainer.communicate()
        assert trainer.returncode == 0


def test_closing_the_pool_ends_the_children_while_a_fork_lives_on(sprint_env: SprintEnv) -> None:
    read_end, write_end = os.pipe()
    try:
        with sprint_env.pool("iterate", num_instances=2) as pool:

            def wait_for_the_end() -> None:
                os.close(write_end)
                os.read(read_end, 1)

            fork = in_fork(wait_for_the_end)
            sprint_env.check(pool, sprint_env.NAMES)
            pids = sprint_env.sprint_pids()
            assert len(pids) == 2
        assert sprint_env.sprint_pids() == []
        assert os.waitpid(fork, os.WNOHANG) == (0, 0)
    finally:
        os.close(write_end)
        os.close(read_end)
    assert ended_well(fork)


@pytest.mark.parametrize("busy", [False, True])
def test_killing_the_trainer_ends_the_children_while_a_fork_of_it_lives_on(
    sprint_env: SprintEnv, busy: bool
) -> None:
    go = sprint_env.path / "go"
    settings = {"seconds": 0.3 if busy else 0, "mark": go}
    options = sprint_env.sprint_file("slow", settings, num_instances=2)
    with sprint_env.trainer_file("trainer_with_fork", options, busy=busy) as trainer:
        fork = sprint_env.said(trainer)
        sprint_env.wait_until(go.exists, "Sprint works")
        pids = sprint_env.sprint_pids()
        assert len(pids) == 2
        trainer.kill()
        trainer.wait()
        sprint_env.wait_gone(pids)
        os.kill(fork, 0)  # it is alive
        assert trainer.stdin is not None
        trainer.stdin.close()
        sprint_env.wait_gone([fork])


def test_when_the_trainer_is_killed_a_sprint_that_hangs_in_its_criterion_also_ends(
    sprint_env: SprintEnv,
) -> None:
    hangs = sprint_env.path / "hangs"
    body = """
    pool = shmbridge.SprintInstancePool(**OPTIONS)
    pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), [3], ["c/s1"])
    """
    options = sprint_env.sprint_file("busy", {"how": "sleeps", "mark": hangs})
    with sprint_env.trainer(body, options) as trainer:
        sprint_env.wait_until(hangs.exists, "Sprint hangs")
        pids = sprint_env.sprint_pids()
        assert len(pids) == 1
        trainer.kill()
        trainer.wait()
        sprint_env.wait_gone(pids)


def test_a_fork_may_have_a_pool_of_its_own(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop") as pool:

        def work() -> None:
            with sprint_env.pool("loop") as own:
                sprint_env.check(own, sprint_env.NAMES)

        fork = in_fork(work)
        sprint_env.check(pool, sprint_env.NAMES)
        assert ended_well(fork)
        sprint_env.check(pool, sprint_env.NAMES)


def test_a_fork_made_while_another_thread_closes_the_pool_does_not_hang_in_it(
    sprint_env: SprintEnv, sprint_log: Callable[[], list[str]]
) -> None:
    go = sprint_env.path / "go"
    pool = sprint_env.scripted_pool(f"""
    import time
    init().run_control_loop(callback=callback)
    while not os.path.exists({str(go)!r}):
        time.sleep(0.01)
    """)
    closer = threading.Thread(target=pool.close)
    closer.start()
    try:
        sprint_env.wait_until(
            lambda: any("asks to exit" in line for line in sprint_log()), "it is asked to exit"
        )

        def work() -> None:
            signal.alarm(10)
            with pytest.raises(shmbridge.ClosedError):
                pool.claim("c/s1", 3, 4)
            pool.close()

        assert ended_well(in_fork(work))
    finally:
        go.touch()
        closer.join()


def test_a_failed_restart_does_not_close_a_descriptor_of_other_code(sprint_env: SprintEnv) -> None:
    path = sprint_env.executable(
        "#!/bin/sh\nexec " + shlex.join([sys.executable, "-m", "shmbridge.refsprint"]) + ' "$@"'
    )
    with sprint_env.pool("loop", sprint_exec_path=path) as pool:
        (pid,) = sprint_env.sprint_pids()
        os.unlink(path)
        os.kill(pid, signal.SIGKILL)
        sprint_env.wait_gone([pid])
        with pytest.raises((shmbridge.PeerGoneError, shmbridge.OptionError)):
            sprint_env.check(pool, sprint_env.NAMES)
        with pytest.raises(shmbridge.OptionError, match=r"No such file or directory \[executable\]"):
            sprint_env.check(pool, sprint_env.NAMES)
        # Their numbers include those of the dead child's descriptors.
        others = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]

        def work() -> None:
            for descriptor in others:
                os.fstat(descriptor)

        assert ended_well(in_fork(work))
        with pytest.raises(shmbridge.OptionError, match=r"No such file or directory \[executable\]"):
            sprint_env.check(pool, sprint_env.NAMES)
    for descriptor in others:
        os.fstat(descriptor)
    for descriptor in others:
        os.close(descriptor)


# --- signals


def test_ctrl_c_while_waiting_is_a_keyboard_interrupt_and_the_next_batch_is_answered(
    sprint_env: SprintEnv,
) -> None:
    go = sprint_env.path / "go"
    for in_place in (False, True):
        go.unlink() if go.exists() else None
        options = sprint_env.sprint_file("interrupting", {"go": go})
        with sprint_env.trainer_file(
            "trainer_after_interrupt", options, in_place=in_place, go=str(go)
        ) as trainer:
            assert sprint_env.said(trainer) == "KeyboardInterrupt"
            for value in range(3):
                assert sprint_env.said(trainer) == [[1.5, 1.5], [[2.0 * value] * 4] * 4]
            assert sprint_env.said(trainer)
            trainer.communicate()
            assert trainer.returncode == 0


def test_other_signals_are_handled_while_waiting_and_the_wait_continues(sprint_env: SprintEnv) -> None:
    body = """
    handled = []
    signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
    with shmbridge.SprintInstancePool(**OPTIONS) as pool:
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), [3], ["c/s1"])
    say([loss.tolist(), len(handled) > 0])
    """
    options = sprint_env.sprint_file("signalling", {}, use_python_segment_order=False)
    with sprint_env.trainer(body, options) as trainer:
        assert sprint_env.said(trainer) == [[1.5], True]
        trainer.communicate()
        assert trainer.returncode == 0


def test_ctrl_c_in_the_terminal_does_not_reach_sprint(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("loop", num_instances=2):
        for pid in sprint_env.sprint_pids():
            assert os.getsid(pid) != os.getsid(0)
            assert os.getpgid(pid) != os.getpgid(0)


# --- other processes and users


def test_a_program_that_the_trainer_starts_inherits_nothing_of_the_pool(sprint_env: SprintEnv) -> None:
    script = """
import json, os
found = []
for number in os.listdir("/proc/self/fd"):
    try:
        found.append(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        pass
print(json.dumps(found))
"""

    def inherited() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, close_fds=False
        )
        return [link for link in json.loads(done.stdout) if "/proc/" not in link]

    before = inherited()
    with sprint_env.pool("loop", num_instances=2) as pool:
        during = inherited()
        sprint_env.check(pool, sprint_env.NAMES)
    assert len(during) == len(before)
    assert not any("/memfd:shmbridge" in link for link in during)


def test_one_child_inherits_nothing_of_the_other_and_nothing_of_the_trainer(sprint_env: SprintEnv) -> None:
    secret = os.open(sprint_env.path / "corpus.xml", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with sprint_env.pool("loop", num_instances=3) as pool:
            sprint_env.check(pool, sprint_env.NAMES)
            pipes: list[set[str]] = []
            for pid in sprint_env.sprint_pids():
                links = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
                assert not any("corpus.xml" in link for link in links)
                assert "/dev/null" in links
                pipes.append({link for link in links if link.startswith("pipe:")})
            assert len(pipes) == 3
            assert not pipes[0] & pipes[1]
            assert not pipes[0] & pipes[2]
            assert not pipes[1] & pipes[2]
    finally:
        os.close(secret)


def test_the_shared_memory_has_no_name_and_belongs_to_the_user_alone(sprint_env: SprintEnv) -> None:
    body = """
    fields = dict(item.split(":") for item in CONFIG.split(","))
    for name in ("shm_fd", "bell_fd"):
        status = os.fstat(int(fields[name]))
        SEEN[name] = [status.st_mode, status.st_nlink, status.st_size, status.st_uid]
    control = init()
    for name in segment_list():
        process(control, name)
    """
    before = set(os.listdir("/dev/shm"))
    with sprint_env.scripted_pool(body) as pool:
        pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), np.array([3]), ["c/s1"])
        new = set(os.listdir("/dev/shm")) - before
        with open("/proc/self/maps") as maps:
            inodes = {line.split()[4] for line in maps if "/memfd:shmbridge" in line}
        assert len(inodes) >= 2
        assert not {name for name in new if re.fullmatch("[a-z]+", name)}  # as posix_ipc generates them
    seen = sprint_env.seen()
    for name in ("shm_fd", "bell_fd"):
        mode, links, _, owner = seen[name]
        assert stat.S_IMODE(mode) == 0o600
        assert links == 0
        assert owner == os.geteuid()
    assert seen["shm_fd"][2] >= 2 << 20


def test_the_memory_of_a_pool_is_freed_at_its_end(sprint_env: SprintEnv) -> None:
    def mapped() -> int:
        with open("/proc/self/maps") as maps:
            return sum("/memfd:shmbridge" in line for line in maps)

    import gc

    gc.collect()
    before = mapped()
    pool = sprint_env.pool("loop", num_instances=2)
    sprint_env.check(pool, sprint_env.NAMES)
    assert mapped() > before
    pool.close()
    del pool
    gc.collect()
    assert mapped() == before


def test_many_pools_one_after_the_other_leave_no_descriptor_and_no_thread(sprint_env: SprintEnv) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    counts = []
    for _ in range(5):
        with sprint_env.scripted_pool(
            "init().run_control_loop(callback=callback)", use_python_segment_order=False
        ):
            pass
        counts.append(descriptors())
    assert counts == counts[:1] * 5


def test_pools_that_fail_to_start_leave_no_descriptor_and_no_process(sprint_env: SprintEnv) -> None:
    counts = []
    for _ in range(5):
        with pytest.raises(shmbridge.PeerGoneError):
            sprint_env.scripted_pool("sys.exit(3)", num_instances=2)
        counts.append(len(os.listdir("/proc/self/fd")))
        assert sprint_env.sprint_pids() == []
    assert counts == counts[:1] * 5


def test_children_that_die_and_are_restarted_leave_no_descriptor(sprint_env: SprintEnv) -> None:
    counts = []
    with sprint_env.pool("loop") as pool:
        for _ in range(4):
            (pid,) = sprint_env.sprint_pids()
            os.kill(pid, signal.SIGKILL)
            sprint_env.wait_gone([pid])
            try:
                sprint_env.check(pool, sprint_env.NAMES)
            except shmbridge.PeerGoneError:  # the pool noticed the death after it had sent a segment
                sprint_env.check(pool, sprint_env.NAMES)
            counts.append(len(os.listdir("/proc/self/fd")))
    assert counts == counts[:1] * 4


def test_a_sprint_that_does_not_exit_is_killed(sprint_env: SprintEnv) -> None:
    body = """
    import signal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = init()
    for name in segment_list():
        process(control, name)
    while True:
        signal.pause()
    """
    with sprint_env.scripted_pool(body, exit_timeout=0.2) as pool:
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), np.array([3]), ["c/s1"])
        assert loss[0] == 1.5
    assert sprint_env.sprint_pids() == []


def test_a_process_that_sprint_started_ends_with_sprint(sprint_env: SprintEnv) -> None:
    # A process that Sprint started keeps its output and its pipes open.
    body = """
    import subprocess
    control = init()
    helper = subprocess.Popen(["sleep", "60"], close_fds=False)
    SEEN["helper"] = helper.pid
    for name in segment_list():
        process(control, name)
    """
    with sprint_env.scripted_pool(body) as pool:
        loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), np.array([3]), ["c/s1"])
        assert loss[0] == 1.5
    sprint_env.wait_gone([sprint_env.seen()["helper"]])


def test_malloc_keeps_freed_memory_in_sprint_unless_the_user_sets_the_variables(
    sprint_env: SprintEnv,
) -> None:
    settings = {"MALLOC_MMAP_THRESHOLD_": "1234567", "MALLOC_TRIM_THRESHOLD_": ""}
    plain = {key: value for key, value in sprint_env.env.items() if key not in settings}
    for env, expected in ((plain, {"4294967296", "17179869184"}), ({**plain, **settings}, {"1234567", ""})):
        with sprint_env.pool("loop", env=env):
            (pid,) = sprint_env.sprint_pids()
            with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
                found = dict(item.split("=", 1) for item in file.read().split("\0") if item)
            assert {found[key] for key in settings} == expected
