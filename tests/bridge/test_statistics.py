"""The counters of a pool: `stats()`, and the summary that close() logs."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import threading
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge.parent import PoolStatistics
from shmbridge.units import format_bytes, format_duration
from support.sprint_env import SprintEnv


def closing_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for name, _, text in caplog.record_tuples if name == "shmbridge" and "pool closed" in text]


def test_a_snapshot_does_not_change(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate") as pool:
        before = pool.stats()
        sprint_env.check(pool, sprint_env.NAMES[:2])
        assert before.segments == 0
        assert pool.stats().segments == 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.segments = 1  # type: ignore[misc]


def test_each_child_has_its_own_counts(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", num_instances=2) as pool:
        sprint_env.check(pool, sprint_env.NAMES)
        children = pool.stats().children
        assert sorted(child.pid for child in children) == sprint_env.sprint_pids()
        assert sum(child.answered for child in children) == len(sprint_env.NAMES)
        for child in children:
            assert (child.state, child.in_flight, child.restarts) == ("ready", 0, 0)
            assert (child.ring_size, child.error_signals_used) == (1 << 20, 0)
    assert [child.state for child in pool.stats().children] == ["ended", "ended"]


def test_unanswered_segments_are_in_flight_and_occupy_the_ring(sprint_env: SprintEnv) -> None:
    body = """
    control = init()
    sys.stdin = open(OPTIONS["gate"])  # until the test opens it
    sys.stdin.read()
    for name in segment_list():
        process(control, name)
    """
    gate = sprint_env.path / "gate"
    os.mkfifo(gate)
    with sprint_env.scripted_pool(body, sprint_config=[f"--gate={gate}"]) as pool:
        claim = pool.claim("c/s1", 4, 3)
        claim.posteriors[:] = -1
        assert pool.stats().children[0].posteriors_used == 0
        sent = claim.send()
        (child,) = pool.stats().children
        assert child.in_flight == 1
        assert child.posteriors_used == 64 + 64 + 64  # header, name, 4 x 3 floats
        gate.write_text("go")
        with sent.result():
            (child,) = pool.stats().children
            assert child.error_signals_used == 64 + 64
        (child,) = pool.stats().children
        assert (child.in_flight, child.error_signals_used) == (0, 0)
        sprint_env.wait_until(lambda: pool.stats().children[0].posteriors_used == 0, "Sprint has released it")


def test_the_times_add_up_to_the_time_in_sprint(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", "refsprint.criterion-sleep=0.05") as pool:
        started = pool.stats()
        assert started.wait_seconds == 0
        assert 0 < started.start_seconds <= started.seconds
        sprint_env.check(pool, sprint_env.NAMES[:4])
        stats = pool.stats()
        assert 4 * 0.05 * 0.9 < stats.wait_seconds < stats.seconds - stats.start_seconds
        assert 0 < stats.copy_seconds < stats.seconds
        assert stats.start_seconds == started.start_seconds


def test_stats_do_not_wait_for_a_call_in_another_thread(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate", "refsprint.criterion-sleep=1000") as pool:
        lengths = sprint_env.frames(sprint_env.NAMES[:1])

        def call() -> None:
            with pytest.raises(shmbridge.ClosedError):
                pool.get_batch_loss_and_error_signal(
                    sprint_env.posteriors(lengths), np.array(lengths), sprint_env.NAMES[:1]
                )

        thread = threading.Thread(target=call)
        thread.start()
        sprint_env.wait_until(lambda: pool.stats().children[0].in_flight == 1, "the segment is in flight")
        os.kill(sprint_env.sprint_pids()[0], 9)
        pool.close()
        thread.join()


def test_closing_logs_one_summary(sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shmbridge")
    pool = sprint_env.pool("iterate", num_instances=2)
    names = [*sprint_env.NAMES[:3], sprint_env.SHORT]
    lengths = sprint_env.frames(names)
    pool.get_batch_loss_and_error_signal(sprint_env.posteriors(lengths), np.array(lengths), names)
    assert closing_lines(caplog) == []
    pool.close()
    pool.close()
    (line,) = closing_lines(caplog)
    assert re.search(r"3 segments in \d+\.\d s by 2 Sprint children", line)
    assert "1 skipped, 0 failed, 0 restarts" in line
    assert f"{16 * sum(lengths)} B of posteriors sent, {16 * sum(lengths[:3])} B of error signals" in line
    assert "waiting for Sprint" in line
    assert "copying" in line


def test_the_summary_counts_scored_segments_if_there_are_any() -> None:
    zeros: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(PoolStatistics)}
    counts = {"seconds": 9, "children": (), "scored": 2, "scored_frames": 70, "score_seconds": 1.25}
    stats = PoolStatistics(**{**zeros, **counts})
    assert "2 segments of 70 frames scored in 1.2 s" in str(stats)
    assert "scored" not in str(dataclasses.replace(stats, scored=0))


def test_seconds_do_not_increase_after_the_pool_is_closed(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate") as pool:
        pass
    assert pool.stats() == pool.stats()


def test_a_pool_that_failed_to_start_logs_no_summary(
    sprint_env: SprintEnv, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shmbridge")
    with pytest.raises(shmbridge.PeerGoneError):
        sprint_env.scripted_pool("sys.exit(3)")
    assert closing_lines(caplog) == []


def test_a_fork_has_no_statistics(sprint_env: SprintEnv) -> None:
    with sprint_env.pool("iterate") as pool:
        pid = os.fork()
        if pid == 0:
            try:
                pool.stats()
            except shmbridge.UsageError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        sprint_env.check(pool, sprint_env.NAMES[:1])


def test_numbers_are_formatted_for_people() -> None:
    sizes = [0, 999, 1000, 1_500_000, 2_000_000_000, 5 * 10**12]
    assert [format_bytes(each) for each in sizes] == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "5.0 TB"]
    assert [format_duration(each) for each in (5e-6, 0.0021, 3.0)] == ["5.0 µs", "2.1 ms", "3.0 s"]
