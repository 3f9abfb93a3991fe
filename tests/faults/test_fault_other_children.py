"""What is wrong at one child is no error of what was sent to another."""

from __future__ import annotations

import os
import signal

import pytest

import shmbridge

SLOW = """
import time

def slow(command, **arguments):
    if command == "calculate_criterion":
        time.sleep(0.3)
    return callback(command, **arguments)

init().run_control_loop(callback=slow)
"""
QUICK = "init().run_control_loop(callback=callback)"


def end_of(pool):
    """Its only child ends, and that is known."""
    (process,) = [instance._process for instance in pool._dispatcher.instances]
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(60)


def claim(pool, name, frames, labels=4):
    claimed = pool.claim(name, frames, labels)
    claimed.posteriors[:] = 1
    return claimed


class TwoChildren:
    """At the one a segment lies behind a claim that is not sent; the other has nothing to do yet."""

    def __init__(self, pool):
        self.open = claim(pool, "c/open", 1000)
        self.large = claim(pool, "c/large", 10, 20_000)  # for the other child; it fills most of the ring
        self.behind = claim(pool, "c/behind", 500)
        assert self.open._instance is self.behind._instance
        assert self.open._instance is not self.large._instance
        self.behind.send()


def test_a_result_is_waited_for_whatever_lies_at_other_children(bench):
    with bench.hand_pool(SLOW, num_instances=2) as pool:
        children = TwoChildren(pool)
        with children.large.send().result() as result:
            assert result.loss == 1.5
        with pytest.raises(shmbridge.UsageError, match="'c/behind' waits behind 'c/open'"):
            children.behind.result()
        children.open.send()
        assert (children.open.result().loss, children.behind.result().loss) == (1.5, 1.5)


def test_room_is_waited_for_whatever_lies_at_other_children(bench):
    with bench.hand_pool(SLOW, num_instances=2) as pool:
        children = TwoChildren(pool)
        children.large.send()
        another = claim(pool, "c/another", 11, 20_000)
        assert another._instance is children.large._instance
        another.abort()
        children.open.abort()


def test_a_batch_is_waited_for_only_where_all_of_it_can_come(bench):
    with bench.hand_pool(SLOW, num_instances=2) as pool:
        children = TwoChildren(pool)
        with pytest.raises(shmbridge.UsageError, match="'c/open' was claimed and is not sent yet"):
            pool.get_automata_for_batch(["c/s1"])
        children.open.abort()


def test_what_finds_no_room_to_be_sent_again_is_asked_for_again_when_there_is(bench):
    with bench.hand_pool(QUICK, max_restarts=1, ring_size=1 << 16) as pool:
        orphan = claim(pool, "c/orphan", 1200)
        end_of(pool)
        others = [claim(pool, f"c/s{number}", 1200) for number in range(3)]
        orphan.send()
        for _ in range(2):
            with pytest.raises(BufferError):
                orphan.result()
        for other in others:
            other.abort()
        with orphan.result() as result:
            assert (result.error_signal == 2).all()


def test_what_is_to_be_sent_again_to_children_that_all_wait_for_the_user_is_an_error_and_not_a_hang(bench):
    with bench.hand_pool(QUICK, max_restarts=1) as pool:
        orphan = claim(pool, "c/orphan", 3)
        end_of(pool)
        first, *behind = (claim(pool, f"c/s{number}", 3) for number in range(3))
        for each in behind:  # as many as a child is given at a time
            each.send()
        orphan.send()
        with pytest.raises(shmbridge.UsageError, match="'c/s1' waits behind 'c/s0'"):
            orphan.result()
        first.send()
        assert [each.result().loss for each in (orphan, first, *behind)] == [1.5] * 4
