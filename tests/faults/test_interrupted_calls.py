"""Ctrl-C during a call: segments that were sent are answered later or fail; nothing hangs."""

from __future__ import annotations

import os
import signal

import pytest

import shmbridge
from support.internals import before_each_memory_reservation, before_each_result, kill_child, once

QUICK = "init().run_control_loop(callback=callback)"


def interrupt():
    raise KeyboardInterrupt


def sent(pool, name="c/s1"):
    claim = pool.claim(name, 3, 4)
    claim.posteriors[:] = 1
    return claim.send()


@pytest.mark.parametrize("num_instances", [1, 2])
@pytest.mark.parametrize("call", ["result", "claim", "batch"])
def test_unanswered_segments_are_answered_although_the_restart_was_interrupted(
    sprint_env, call, num_instances
):
    with sprint_env.scripted_pool(QUICK, max_restarts=1, num_instances=num_instances) as pool:
        os.kill(pool.stats().children[0].pid, signal.SIGSTOP)
        first, second = sent(pool, "c/s1"), sent(pool, "c/s2")
        kill_child(pool)
        calls = {
            "result": first.result,
            "claim": lambda: pool.claim("c/s3", 3, 4),
            "batch": lambda: pool.get_automata_for_batch(["c/s3"]),
        }
        with pytest.raises(KeyboardInterrupt), before_each_memory_reservation(once(interrupt)):
            calls[call]()
        assert (second.result().loss, first.result().loss) == (1.5, 1.5)
        assert (pool.stats().segments, pool.stats().failed, pool.stats().restarts) == (2, 0, 1)


def test_an_answer_that_was_interrupted_during_its_copy_fails_that_segment_alone(sprint_env):
    with sprint_env.scripted_pool(QUICK) as pool:
        first, second = sent(pool, "c/s1"), sent(pool, "c/s2")
        with pytest.raises(KeyboardInterrupt), before_each_result(once(interrupt)):
            first.result()
        for _ in range(2):
            with pytest.raises(shmbridge.UsageError, match=r"'c/s1' has no answer.*claim the segment again"):
                first.result()
        assert second.result().loss == 1.5
        assert sent(pool).result().loss == 1.5
