"""A call within a call of the same thread: an error of the inner one; the outer one goes on.

The inner call comes from a signal handler, a finaliser or a copy callback. Here, a hook makes it.
"""

from __future__ import annotations

import numpy as np
import pytest

import shmbridge
from support.internals import before_each_sleep, once, unfinished

# Answers once a file exists.
PATIENT = """
import time
def patient(command, **arguments):
    while command == "calculate_criterion" and not os.path.exists({go!r}):
        time.sleep(0.001)
    return callback(command, **arguments)
init().run_control_loop(callback=patient)
"""
POSTERIORS = np.ones((3, 2, 4), np.float32)
NAMES = ["c/s1", "c/s2"]


def batch(pool):
    return pool.get_batch_loss_and_error_signal(POSTERIORS, [3, 3], NAMES)


class Held:
    def __init__(self, pool):
        first = pool.claim("c/s1", 3, 4)
        first.posteriors[:] = 1
        self.sent = first.send()
        self.claim = pool.claim("c/s2", 3, 4)
        self.claim.posteriors[:] = 1


CALLS = {
    "batch": lambda pool, held: batch(pool),
    "automata": lambda pool, held: pool.get_automata_for_batch(NAMES),
    "claim": lambda pool, held: pool.claim("c/s3", 3, 4),
    "send": lambda pool, held: held.claim.send(),
    "abort": lambda pool, held: held.claim.abort(),
    "result": lambda pool, held: held.sent.result(),
    "serve_scores": lambda pool, held: pool.serve_scores(lambda features: features),
    "memories": lambda pool, held: pool.memories,
    "close": lambda pool, held: pool.close(),
}


@pytest.fixture
def go(sprint_env):
    return sprint_env.path / "go"


@pytest.fixture
def pool(sprint_env, go):
    with sprint_env.scripted_pool(PATIENT.format(go=str(go))) as pool:
        yield pool
        go.touch()


@pytest.mark.parametrize("call", [call for call in CALLS if call != "close"])
def test_a_call_within_a_call_raises_and_the_outer_call_goes_on(pool, go, call):
    held = Held(pool)
    errors = []

    def nest():
        assert not held.sent.done()
        with pytest.raises(shmbridge.UsageError, match="from within a call of its own") as caught:
            CALLS[call](pool, held)
        errors.append(caught.value)
        go.touch()

    with before_each_sleep(pool, once(nest)), held.sent.result() as result:
        assert (result.error_signal == 2).all()
    assert len(errors) == 1
    assert held.claim.send().result().loss == 1.5
    assert batch(pool).loss.tolist() == [1.5, 1.5]
    errors.clear()
    del result
    assert unfinished(pool) == []


def test_a_close_within_a_call_raises_and_the_outer_call_finds_the_pool_closed(pool, go):
    held = Held(pool)

    def nest():
        with pytest.raises(shmbridge.UsageError, match="from within a call of its own"):
            pool.close()
        assert pool.closed

    with before_each_sleep(pool, once(nest)), pytest.raises(shmbridge.ClosedError):
        held.sent.result()
    with pytest.raises(shmbridge.ClosedError):
        batch(pool)
    go.touch()
    pool.close()
    assert pool.stats().children[0].state == "ended"
