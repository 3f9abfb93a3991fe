"""Doorbells: which events wake a sleeper, and which do not."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest
from ring_peer import with_peer

from shmbridge.doorbell import DEFAULT_MAX_SPIN_NS, WaitList

SHORT = 0.02  # seconds in which nothing happens


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS, 1_000_000])
def test_a_wait_without_news_times_out(ring, spin_ns):
    for end in ("consumer", "producer"):
        started = time.monotonic()
        assert ring.wait(end, SHORT, spin_ns) is False
        assert time.monotonic() - started + 1e-3 >= SHORT


def test_a_timeout_of_zero_or_less_only_checks_the_ring(ring):
    assert ring.wait("consumer", 0.0) is False
    assert ring.wait("consumer", -5.0) is False
    ring.must_send(64)
    assert ring.wait("consumer", 0.0) is True


def test_a_wait_without_rings_ends_with_its_timeout_or_a_poke(ring):
    nowhere = WaitList([])
    assert ring.consumer_bell.wait(nowhere, SHORT) is False
    ring.consumer_bell.poke()
    assert ring.consumer_bell.wait(nowhere, SHORT) is True


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS])
def test_a_poke_before_the_wait_wakes_exactly_one_wait(ring, spin_ns):
    ring.consumer_bell.poke()
    assert ring.wait("consumer", 20.0, spin_ns) is True
    assert ring.wait("consumer", SHORT, spin_ns) is False


def test_a_poke_wakes_one_doorbell_only(ring):
    ring.producer_bell.poke()
    assert ring.wait("consumer", SHORT) is False
    assert ring.wait("producer", 20.0) is True


def test_a_wait_returns_for_news_without_a_token(ring):
    ring.must_send(64)
    for _ in range(5):
        assert ring.wait("consumer", 20.0) is True
    ring.receive(0).release()
    # A commit without a waiter leaves no token.
    assert ring.wait("consumer", SHORT) is False


def test_ringing_without_a_waiter_leaves_no_token(ring):
    for _ in range(100):
        ring.pass_on(64)
    assert ring.wait("consumer", SHORT) is False


def test_a_release_does_not_wake_a_process_that_does_not_wait_for_room(ring):
    ring.must_send(64)
    record = ring.receive(0)
    woken = []
    thread = threading.Thread(target=lambda: woken.append(ring.producer_bell.wait(WaitList([]), 0.3, 0)))
    thread.start()
    time.sleep(0.05)  # until it sleeps
    record.release()
    thread.join(20)
    assert woken == [False]


def test_the_producer_has_news_when_the_head_moved_since_its_last_claim(ring):
    ring.must_send(1024)
    assert not ring.send(64)
    assert ring.wait("producer", SHORT) is False
    ring.receive(0).release()
    assert ring.wait("producer", 20.0) is True
    assert ring.send(64)
    assert ring.wait("producer", SHORT) is False


def test_skipping_padding_is_news_for_the_producer(ring):
    ring.place_at(512)
    assert not ring.send(1024)
    assert ring.wait("producer", SHORT) is False
    assert ring.wait("consumer", 20.0) is True
    assert ring.consumer.receive() is None
    assert ring.wait("consumer", SHORT) is False
    assert ring.wait("producer", 20.0) is True
    assert ring.send(1024)


def test_the_number_of_pending_pokes_is_bounded(ring):
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
        ring.must_send(64)  # can only run because the wait released the GIL
    else:
        ring.consumer_bell.poke()
    thread.join(20)
    assert woken[0][0] is True
    assert woken[0][1] - rung < 1.0


def test_threads_that_commit_and_wait_never_lose_a_wake_up(ring):
    """Each thread sleeps once for each record: the ring holds one, and no thread spins."""
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
            assert ring.wait("producer", 20.0), "the producer's wake-up was lost"
    thread.join(30)
    assert not failed


def test_a_commit_wakes_another_process():
    with with_peer("wait", 1, 0) as (partner, process):
        assert process.stdout.readline() == "waiting\n"
        for _ in range(20):
            time.sleep(0.003)
            partner.channel.sender.claim(2, 0, 0).commit()
            assert process.stdout.readline() == "received\n"


def test_a_poke_from_another_process_wakes_a_waiter():
    with with_peer("poke", 1, 0) as (partner, process):
        assert partner.channel.wait(timeout=20.0) is True
        assert process.wait(20) == 0
        assert partner.channel.wait(timeout=SHORT) is False


@pytest.mark.parametrize("spin_ns", [0, DEFAULT_MAX_SPIN_NS])
def test_ctrl_c_promptly_ends_a_wait_without_a_timeout(spin_ns):
    with with_peer("wait", 1, spin_ns) as (_, process):
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)  # until it sleeps
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        line = process.stdout.readline()
        assert time.monotonic() - sent < 5.0
        assert re.match(r"interrupted [\d.]+\n", line)
        assert process.wait(20) == 0


def test_a_signal_with_a_python_handler_ends_the_wait_like_news(ring):
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
