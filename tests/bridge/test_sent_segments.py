"""A segment that was sent in place behaves like a future."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmbridge
from support.internals import kill_child
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
    with pytest.raises(shmbridge.ClosedError):
        sent.result(timeout=0)


def test_an_answer_that_came_before_close_is_the_result_after_it(
    pool: shmbridge.SprintInstancePool, sprint_env: SprintEnv
) -> None:
    sent, unanswered = send(pool), send(pool)
    (sprint_env.path / "s1").touch()
    sprint_env.wait_until(sent.done, "Sprint has answered")
    pool.close()
    with sent.result() as result:
        assert (result.loss, result.error_signal.shape) == (1.5, (3, 4))
    assert unanswered.done()


@pytest.mark.parametrize("may_retry", [False, True])
def test_a_segment_that_was_claimed_before_close_cannot_be_sent_after_it(
    sprint_env: SprintEnv, may_retry: bool
) -> None:
    options = sprint_env.sprint_file("patient", {"folder": sprint_env.path}, max_restarts=int(may_retry))
    with shmbridge.SprintInstancePool(**options) as pool:
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[:] = 1
        pool.close()
        for _ in range(2):
            with pytest.raises(shmbridge.ClosedError):
                claim.send()
        assert (claim.posteriors == 1).all()
        claim.abort()
        claim.abort()


def test_the_result_of_a_queued_retry_is_an_error_after_close(sprint_env: SprintEnv) -> None:
    options = sprint_env.sprint_file("patient", {"folder": sprint_env.path}, max_restarts=1, exit_timeout=0.1)
    with shmbridge.SprintInstancePool(**options) as pool:
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[:] = 1
        kill_child(pool)
        in_flight = [send(pool), send(pool)]  # as many as a child can have
        queued = claim.send()
        assert not queued.done()
        pool.close()
        for sent in (queued, *in_flight):
            assert sent.done()
            with pytest.raises(shmbridge.ClosedError):
                sent.result()


CALLS_OF_A_POOL: dict[str, Callable[[Any], object]] = {
    "batch": lambda pool: pool.get_batch_loss_and_error_signal(np.zeros((3, 1, 4)), [3], ["c/s1"]),
    "loss": lambda pool: pool.get_batch_loss(np.zeros((3, 1, 4)), [3], ["c/s1"]),
    "automata": lambda pool: pool.get_automata_for_batch(["c/s1"]),
    "claim": lambda pool: pool.claim("c/s1", 3, 4),
    "serve_scores": lambda pool: pool.serve_scores(lambda features: features),
}


@pytest.mark.parametrize("call", CALLS_OF_A_POOL)
def test_each_call_of_a_closed_pool_is_an_error(pool: shmbridge.SprintInstancePool, call: str) -> None:
    pool.close()
    with pytest.raises(shmbridge.ClosedError):
        CALLS_OF_A_POOL[call](pool)
    assert [child.state for child in pool.stats().children] == ["ended"]
    pool.close()
