"""A fork of a process with ring ends does not move their positions."""

from __future__ import annotations

import gc
import os
import threading
import traceback

import pytest

from shmbridge.channel import Channel
from shmbridge.doorbell import Doorbell
from shmbridge.errors import UsageError
from shmbridge.memory import PAGE, Geometry, Memory, create_shared_memory

# Python 3.12 and later warn of a fork in a process with several threads, which these tests need.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_a_fork(function):
    """Run the function in a fork of this process; fail if it raises."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        report = ""
        try:
            function()
        except BaseException:
            report = traceback.format_exc()
        os.write(write, report.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        report = pipe.read()
    os.waitpid(pid, 0)
    assert report == ""


def test_a_disowned_end_refuses_every_call(ring):
    ring.must_send(128)
    record = ring.receive(0)
    claim = ring.claim(128)

    def child():
        ring.producer.disown()
        ring.consumer.disown()
        for use in (lambda: ring.claim(64), ring.consumer.receive, claim.commit, claim.abort):
            with pytest.raises(UsageError, match="this process is a fork"):
                use()
        assert ring.producer.used == ring.consumer.used == 0
        ring.check(record)  # its content remains readable
        record.release()

    in_a_fork(child)
    assert (ring.tail, ring.head) == (128, 0)
    claim.commit()
    record.release()
    ring.receive(1).release()


def test_the_garbage_collector_of_a_fork_moves_no_position(ring):
    ring.must_send(128)
    ring.must_send(128)
    held = {"record": ring.receive(0), "claim": ring.claim(256)}
    held["view"] = held["record"].matrix[0, 3:]
    held["array"] = held["claim"].matrix[0, 3:]

    def child():
        ring.producer.disown()
        ring.consumer.disown()
        held.clear()
        gc.collect()
        for end in ("producer", "consumer", "producer_bell", "consumer_bell"):
            delattr(ring, end)
        gc.collect()

    in_a_fork(child)
    assert (ring.tail, ring.head) == (256, 0)
    assert bytes(held["array"]) == bytes(held["claim"].matrix[0, 3:])
    held["claim"].commit()
    ring.check(held["record"])
    held.clear()
    ring.receive(1)
    ring.receive(2)
    assert ring.head == ring.tail == 512


def test_a_fork_while_another_thread_uses_the_ring_does_not_hang(ring_of):
    ring = ring_of(4096)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            ring.pass_on(256)

    thread = threading.Thread(target=work)
    thread.start()
    try:

        def child():
            ring.producer.disown()
            ring.consumer.disown()
            with pytest.raises(UsageError):
                ring.consumer.receive()
            gc.collect()

        for _ in range(20):
            in_a_fork(child)
    finally:
        stop.set()
        thread.join()


def test_a_disowned_channel_neither_sends_nor_receives():
    geometry = Geometry.for_ring_size(1)
    fd = create_shared_memory(geometry.total_size)
    bell_fd = create_shared_memory(PAGE)
    memory, bell_memory = Memory(fd, geometry.total_size), Memory(bell_fd, PAGE)
    os.close(fd)
    os.close(bell_fd)
    own, peer = Doorbell(bell_memory, create=True), Doorbell(memory, create=True)
    parent = Channel.of_parent(memory, geometry, own=own, peer=peer)
    child = Channel.of_child(memory, geometry, own=peer, peer=own)
    parent.sender.claim(2, 3, 4, sequence=1).commit()

    def fork():
        parent.disown()
        with pytest.raises(UsageError):
            parent.sender.claim(2, 3, 4)
        with pytest.raises(UsageError):
            parent.receiver.receive()

    in_a_fork(fork)
    record = child.receiver.receive()
    assert record.sequence == 1
    child.sender.claim(3, 3, 4, sequence=1).commit()
    assert parent.wait(timeout=20.0)
    assert parent.receiver.receive().sequence == 1
