"""Where a process sleeps: who wakes it, and who does not."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest
from ring_peer import with_peer

from shmbridge.doorbell import DEFAULT_MAX_SPIN_NS, WaitList

NOTHING = 0.02


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS, 1_000_000])
def test_a_wait_without_news_ends_with_its_time(ring, spin_ns):
    for end in ("consumer", "producer"):
        started = time.monotonic()
        assert ring.wait(end, NOTHING, spin_ns) is False
        assert time.monotonic() - started + 1e-3 >= NOTHING


def test_a_timeout_of_zero_or_less_only_looks(ring):
    assert ring.wait("consumer", 0.0) is False
    assert ring.wait("consumer", -5.0) is False
    ring.must_send(64)
    assert ring.wait("consumer", 0.0) is True


def test_a_wait_at_no_ring_at_all_ends_with_its_time_or_a_poke(ring):
    nowhere = WaitList([])
    assert ring.consumer_bell.wait(nowhere, NOTHING) is False
    ring.consumer_bell.poke()
    assert ring.consumer_bell.wait(nowhere, NOTHING) is True


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS])
def test_a_poke_before_the_wait_is_not_lost_and_counts_once(ring, spin_ns):
    ring.consumer_bell.poke()
    assert ring.wait("consumer", 20.0, spin_ns) is True
    assert ring.wait("consumer", NOTHING, spin_ns) is False


def test_a_poke_concerns_one_doorbell_only(ring):
    ring.producer_bell.poke()
    assert ring.wait("consumer", NOTHING) is False
    assert ring.wait("producer", 20.0) is True


def test_news_is_seen_without_any_token(ring):
    ring.must_send(64)
    for _ in range(5):
        assert ring.wait("consumer", 20.0) is True
    ring.receive(0).release()
    # A commit for which nobody waited leaves no token behind.
    assert ring.wait("consumer", NOTHING) is False


def test_ringing_without_a_waiter_costs_no_token(ring):
    for _ in range(100):
        ring.pass_on(64)
    assert ring.wait("consumer", NOTHING) is False


def test_the_producer_has_news_when_the_consumer_moved_since_the_last_claim(ring):
    ring.must_send(1024)
    assert not ring.send(64)
    assert ring.wait("producer", NOTHING) is False
    ring.receive(0).release()
    assert ring.wait("producer", 20.0) is True
    assert ring.send(64)
    assert ring.wait("producer", NOTHING) is False


def test_passing_padding_is_news_for_the_producer(ring):
    ring.place_at(512)
    assert not ring.send(1024)
    assert ring.wait("producer", NOTHING) is False
    assert ring.wait("consumer", 20.0) is True
    assert ring.consumer.receive() is None
    assert ring.wait("consumer", NOTHING) is False
    assert ring.wait("producer", 20.0) is True
    assert ring.send(1024)


def test_many_pokes_do_not_overflow_and_are_no_more_than_a_thousand_wake_ups(ring):
    for _ in range(5000):
        ring.consumer_bell.poke()
    wake_ups = 0
    while ring.wait("consumer", 0.0):
        wake_ups += 1
    assert 1 <= wake_ups <= 1024
    ring.consumer_bell.poke()
    assert ring.wait("consumer", 20.0) is True


@pytest.mark.parametrize("wake", ["commit", "poke"])
@pytest.mark.parametrize("spin_ns", [0, 2_000_000_000])
def test_a_waiter_in_another_thread_wakes_at_once(ring, wake, spin_ns):
    woken = []

    def wait():
        woken.append((ring.wait("consumer", 20.0, spin_ns), time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    assert not woken
    rung = time.monotonic()
    if wake == "commit":
        ring.must_send(64)  # that this gets to run shows that the wait has released the GIL
    else:
        ring.consumer_bell.poke()
    thread.join(20)
    assert woken[0][0] is True
    assert woken[0][1] - rung < 1.0


def test_threads_that_commit_and_wait_never_lose_a_wake_up(ring):
    """One record at a time, without spinning: each of the two sleeps for each record."""
    count = 3000
    failed = []

    def consume():
        for sequence in range(count):
            while True:
                record = ring.consumer.receive()
                if record is not None:
                    break
                if not ring.wait("consumer", 20.0):
                    failed.append(sequence)
                    return
            assert record.sequence == sequence
            record.release()

    thread = threading.Thread(target=consume)
    thread.start()
    for _ in range(count):
        while not ring.send(1024):
            assert ring.wait("producer", 20.0), "no wake-up for the producer"
    thread.join(30)
    assert not failed


def test_a_commit_wakes_another_process():
    with with_peer("wait", 1, 0) as (partner, process):
        assert process.stdout.readline() == "waiting\n"
        for _ in range(20):
            time.sleep(0.003)
            partner.channel.sender.claim(2, 0, 0).commit()
            assert process.stdout.readline() == "received\n"


def test_a_poke_from_another_process_wakes():
    with with_peer("poke", 1, 0) as (partner, process):
        assert partner.channel.wait(timeout=20.0) is True
        assert process.wait(20) == 0
        assert partner.channel.wait(timeout=NOTHING) is False


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS])
def test_ctrl_c_ends_a_wait_without_a_timeout_promptly(spin_ns):
    with with_peer("wait", 1, spin_ns) as (_, process):
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)  # it sleeps by now
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        line = process.stdout.readline()
        assert time.monotonic() - sent < 5.0
        assert re.match(r"interrupted [\d.]+\n", line)
        assert process.wait(20) == 0


def test_a_signal_with_a_handler_of_its_own_ends_the_wait_as_if_there_were_news(ring):
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
        timer.start()
        assert ring.wait("consumer", 20.0) is True
        timer.join()
        assert seen
    finally:
        signal.signal(signal.SIGUSR1, old)
