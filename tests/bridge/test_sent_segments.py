"""A segment that was sent in place behaves like a future."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import shmbridge
from support.sprint_env import SprintEnv


@pytest.fixture
def pool(sprint_env: SprintEnv) -> Iterator[shmbridge.SprintInstancePool]:
    options = sprint_env.sprint_file(
        "patient", {"folder": sprint_env.path}, use_python_segment_order=False, exit_timeout=0.1
    )
    with shmbridge.SprintInstancePool(**options) as pool:
        yield pool


def send(pool: shmbridge.SprintInstancePool) -> shmbridge.SentSegment:
    with pool.claim("c/s1", 3, 4) as claim:
        claim.posteriors[:] = 1
        return claim.send()


def test_it_is_done_once_sprint_has_answered(
    pool: shmbridge.SprintInstancePool, sprint_env: SprintEnv
) -> None:
    sent = send(pool)
    assert not sent.done()
    (sprint_env.path / "s1").touch()
    sprint_env.wait_until(sent.done, "Sprint has answered")
    assert sent.result().loss == 1.5
    assert sent.done()


def test_done_does_not_block_while_another_thread_waits_for_the_result(
    pool: shmbridge.SprintInstancePool, sprint_env: SprintEnv
) -> None:
    sent = send(pool)
    results: list[shmbridge.SegmentResult] = []
    waiting = threading.Thread(target=lambda: results.append(sent.result()))
    waiting.start()
    for _ in range(100):
        assert not sent.done()
    (sprint_env.path / "s1").touch()
    waiting.join()
    assert sent.done()
    assert sent.result() is results[0]


def test_it_is_done_after_close_and_its_result_is_an_error(pool: shmbridge.SprintInstancePool) -> None:
    sent = send(pool)
    pool.close()
    assert sent.done()
    with pytest.raises(shmbridge.ClosedError):
        sent.result()
