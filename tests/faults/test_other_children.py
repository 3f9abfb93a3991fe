"""A fault of one child does not fail the segments that were sent to another."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

import shmbridge
from support.internals import (
    before_each_memory_reservation,
    before_each_sleep,
    child_of,
    kill_child,
    once,
)

QUICK = "init().run_control_loop(callback=callback)"


def slow_pool(sprint_env):
    options = sprint_env.sprint_file("slow", {"seconds": 0.3, "mark": ""}, num_instances=2)
    return shmbridge.SprintInstancePool(**options)


def claim(pool, name, frames, labels=4):
    claimed = pool.claim(name, frames, labels)
    claimed.posteriors[:] = 1
    return claimed


class TwoChildren:
    """One child has a segment behind an unsent claim; the other child is idle."""

    def __init__(self, pool):
        self.open = claim(pool, "c/open", 1000)
        self.large = claim(pool, "c/large", 10, 20_000)  # for the other child; it fills most of the ring
        self.behind = claim(pool, "c/behind", 500)
        assert child_of(self.open) == child_of(self.behind) != child_of(self.large)
        self.sent = self.behind.send()


def test_a_result_can_be_awaited_while_other_children_have_unsent_claims(sprint_env):
    with slow_pool(sprint_env) as pool:
        children = TwoChildren(pool)
        with children.large.send().result() as result:
            assert result.loss == 1.5
        with pytest.raises(shmbridge.UsageError, match=r"'c/behind'.* 'c/open'.*\[behind-claim\]"):
            children.sent.result()
        assert (children.open.send().result().loss, children.sent.result().loss) == (1.5, 1.5)


def test_room_can_be_awaited_while_other_children_have_unsent_claims(sprint_env):
    with slow_pool(sprint_env) as pool:
        children = TwoChildren(pool)
        pid = child_of(children.large)
        children.large.send()
        another = claim(pool, "c/another", 11, 20_000)
        assert child_of(another) == pid
        another.abort()
        children.open.abort()


def test_a_batch_waits_only_if_all_its_answers_can_arrive(sprint_env):
    with slow_pool(sprint_env) as pool:
        children = TwoChildren(pool)
        with pytest.raises(shmbridge.UsageError, match=r"'c/open'.*\[behind-claim\]"):
            pool.get_automata_for_batch(["c/s1"])
        children.open.abort()


def test_a_retry_that_found_no_room_is_sent_when_there_is_room(sprint_env):
    with sprint_env.scripted_pool(QUICK, max_restarts=1, ring_size=1 << 16) as pool:
        orphan = claim(pool, "c/orphan", 1200)
        kill_child(pool)
        others = [claim(pool, f"c/s{number}", 1200) for number in range(3)]
        sent = orphan.send()
        for _ in range(2):
            with pytest.raises(BufferError):
                sent.result()
        for other in others:
            other.abort()
        with sent.result() as result:
            assert (result.error_signal == 2).all()


def test_a_retry_is_an_error_and_not_a_hang_if_all_children_wait_for_the_user(
    sprint_env,
):
    with sprint_env.scripted_pool(QUICK, max_restarts=1) as pool:
        orphan = claim(pool, "c/orphan", 3)
        kill_child(pool)
        first, *behind = (claim(pool, f"c/s{number}", 3) for number in range(3))
        sent = [each.send() for each in behind]  # as many as a child can have in flight
        retried = orphan.send()
        with pytest.raises(shmbridge.UsageError, match=r"'c/s1'.* 'c/s0'.*\[behind-claim\]"):
            retried.result()
        assert [each.result().loss for each in (first.send(), retried, *sent)] == [1.5] * 4


class HeldResults:
    """No room for answers. One child has two requests, the other an open claim alone; a retry is queued."""

    def __init__(self, pool):
        orphans = [claim(pool, f"c/orphan{number}", 3) for number in range(2)]
        for index in range(2):
            kill_child(pool, index)
        fill = [claim(pool, f"c/held{number}", 1900) for number in range(4)]
        self.held = [sent.result() for sent in [each.send() for each in fill]]
        full = claim(pool, "c/full", 300)
        pid = child_of(full)
        self.sent = [full.send()]
        self.open = claim(pool, "c/open", 3)
        assert child_of(self.open) != pid
        self.sent += [each.send() for each in orphans]

    def release(self):
        for result in self.held:
            result.release()


def test_a_retry_is_an_error_and_not_a_hang_if_the_only_child_for_it_has_no_room(sprint_env):
    with sprint_env.scripted_pool(QUICK, max_restarts=1, num_instances=2, ring_size=1 << 16) as pool:
        children = HeldResults(pool)
        for sent in (*children.sent, *children.sent):
            with pytest.raises(BufferError, match=r"'c/full'.*\[ring-full\]"):
                sent.result()
        children.release()
        for sent in children.sent:
            with sent.result() as result:
                assert result.loss == 1.5
        children.open.abort()


def test_a_claim_is_an_error_and_not_a_hang_if_no_child_has_room_for_the_queue(sprint_env):
    with sprint_env.scripted_pool(QUICK, max_restarts=1, num_instances=2, ring_size=1 << 16) as pool:
        children = HeldResults(pool)
        with pytest.raises(BufferError, match=r"'c/full'.*\[ring-full\]"):
            claim(pool, "c/next", 3)
        children.release()
        claim(pool, "c/next", 3).abort()
        children.open.abort()


@pytest.mark.parametrize("call", ["claim", "automata", "batch"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_child_that_could_not_be_restarted_is_an_error_only_if_it_is_needed(sprint_env, call, lost):
    """A child dies without memory for its restart, while a call waits for the start of the other child."""
    hold = sprint_env.path / "hold"
    options = sprint_env.sprint_file("held", {"start": hold, "segment": ""}, max_restarts=1, num_instances=2)
    with shmbridge.SprintInstancePool(**options) as pool, ExitStack() as changes:
        hold.touch()
        kill_child(pool, 1 - lost)
        pool.claim("c/s1", 3, 4).abort()  # restarts the child
        kill_child(pool, 1 - lost)

        def lose_the_other():
            changes.enter_context(before_each_memory_reservation(no_memory))
            kill_child(pool, lost)
            hold.unlink()

        changes.enter_context(before_each_sleep(pool, once(lose_the_other)))
        if call == "claim":
            assert claim(pool, "c/s1", 3).send().result().loss == 1.5
        elif call == "automata":
            with pytest.raises(shmbridge.RemoteError, match="export_allophone_state_fsa_by_segment_name"):
                pool.get_automata_for_batch(["c/s1"])  # which this Sprint does not know
        else:
            loss, _ = pool.get_batch_loss_and_error_signal(np.ones((3, 1, 4)), [3], ["c/s1"])
            assert loss.tolist() == [1.5]
        assert pool.stats().children[lost].state == "ended"
        assert pool.stats().children[1 - lost].state == "ready"


def no_memory():
    raise shmbridge.ResourceError("no shared memory is left")
