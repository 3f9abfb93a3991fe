"""Every case of a record that reaches the end of the ring."""

from __future__ import annotations

import pytest
from ring_pair import RingPair

from shmbridge._native import lib

PADDING = lib.SHMB_PADDING


def test_a_record_that_ends_exactly_at_the_end_needs_no_padding(ring):
    assert [ring.must_send(768), ring.must_send(256)] == [0, 768]
    assert ring.tail == 1024
    ring.receive(0, 768).release()
    ring.receive(1, 256).release()
    assert ring.consumer.receive() is None
    assert ring.head == 1024


def test_the_record_after_one_that_ends_exactly_at_the_end_starts_at_the_beginning(ring):
    assert [ring.must_send(512), ring.must_send(512)] == [0, 512]
    ring.receive(0, 512).release()
    assert ring.must_send(512) == 0
    ring.receive(1).release()
    ring.receive(2).release()
    assert (ring.tail, ring.head) == (1536, 1536)


def test_a_record_64_bytes_too_long_wraps_behind_padding_at_once(ring):
    ring.must_send(512)
    held = ring.must_send(320)
    assert held == 512
    ring.receive(0).release()
    # 192 bytes are left before the end, too few for 256; the beginning is free.
    assert ring.must_send(256) == 0
    padding = ring.header(832)
    assert (padding.kind, padding.size, padding.position) == (PADDING, 192, 832)
    assert ring.tail == 1024 + 256
    ring.receive(1).release()
    assert ring.head == 832  # the padding has not been received
    ring.receive(2, 256).release()
    assert ring.head == ring.tail == 1280


def test_a_record_that_fits_exactly_does_not_wrap(ring):
    ring.must_send(512)
    ring.must_send(320)
    ring.receive(0).release()
    assert ring.must_send(192) == 832
    assert ring.tail == 1024


def test_padding_may_be_a_header_only(ring):
    ring.must_send(512)
    ring.must_send(448)
    ring.receive(0).release()
    assert ring.must_send(128) == 0
    assert (ring.header(960).kind, ring.header(960).size) == (PADDING, 64)
    ring.receive(1).release()
    ring.receive(2).release()
    assert ring.head == ring.tail


def test_padding_is_sent_ahead_of_a_record_that_must_wait(ring):
    ring.must_send(256)
    ring.must_send(576)
    ring.receive(0).release()
    # 192 to the end, 256 at the beginning: 320 fit in neither, and 192 + 320 not together.
    assert not ring.send(320)
    assert ring.tail == 1024
    assert ring.header(832).kind == PADDING
    ring.receive(1).release()
    assert ring.head == 832
    assert ring.consumer.receive() is None  # skips the padding
    assert ring.head == 1024
    assert ring.must_send(320) == 0
    ring.receive(2, 320).release()


def test_padding_is_not_sent_twice(ring):
    ring.must_send(256)
    ring.must_send(576)
    ring.receive(0).release()
    for _ in range(3):
        assert not ring.send(320)
        assert ring.tail == 1024
    assert ring.must_send(256) == 0  # fits before the record in use
    ring.receive(1).release()
    ring.receive(2).release()
    assert ring.head == ring.tail == 1280


def test_padding_does_not_overwrite_unreleased_records(ring):
    ring.must_send(512)
    ring.must_send(448)
    ring.receive(0).release()
    ring.must_send(64)
    assert ring.must_send(256) == 0
    # The next offset is 256; the records from 512 on are in use. 320 bytes do not fit between, and padding to
    # the end would overwrite those records.
    before = bytes(ring.raw)
    assert not ring.send(320)
    assert bytes(ring.raw) == before
    for sequence in (1, 2, 3):
        ring.receive(sequence).release()


@pytest.mark.parametrize("padding_first", [False, True])
def test_insufficient_space_after_the_wrap_is_full(ring, padding_first):
    # The record fits neither before the end nor before the head. Aeron's C port lacked this case.
    ring.must_send(256)
    ring.must_send(512)
    if padding_first:
        assert not ring.send(512)  # nothing is released: only the padding fits
        assert ring.tail == 1024
    ring.receive(0).release()
    assert not ring.send(512)
    ring.receive(1).release()
    assert ring.consumer.receive() is None
    assert ring.must_send(512) == 0
    ring.receive(2, 512).release()


@pytest.mark.parametrize("offset", range(0, 1024, 64))
def test_a_record_of_the_full_capacity_passes_from_any_offset(ring, offset):
    ring.place_at(offset)
    if offset:
        assert not ring.send(1024)
        assert ring.consumer.receive() is None
    assert ring.must_send(1024) == 0
    assert ring.producer.used == 1024
    assert not ring.send(64)
    ring.receive(size=1024).release()
    assert ring.must_send(64) == 0
    ring.receive(size=64).release()
    assert ring.head == ring.tail


@pytest.mark.parametrize("size", range(64, 1024 + 64, 64))
@pytest.mark.parametrize("offset", range(0, 1024, 192))
def test_every_size_passes_from_every_offset(ring_of, size, offset):
    ring = ring_of(1024)
    ring.place_at(offset)
    for _ in range(3):
        if not ring.send(size):
            assert ring.consumer.receive() is None
            assert ring.send(size)
        ring.receive(size=size).release()
    assert ring.head == ring.tail


def test_an_empty_ring_restarts_at_its_beginning(ring):
    for _ in range(5):
        assert ring.pass_on(256) == 0
    assert ring.head == ring.tail == 4 * 1024 + 256


def test_an_empty_ring_does_not_restart_if_the_record_would_have_to_wait(ring):
    ring.place_at(128)
    assert ring.pass_on(256) == 128


def test_a_recently_full_ring_restarts_only_if_two_records_fit(ring):
    ring.must_send(256)
    ring.receive().release()
    assert ring.must_send(256) == 0
    assert not ring.send(256)  # the consumer has not skipped the padding
    ring.receive().release()
    assert [ring.pass_on(256) for _ in range(5)] == [256, 0, 256, 0, 256]
    ring.pass_on(256)
    assert [ring.must_send(256) for _ in range(2)] == [256, 512]


def test_a_ring_that_is_not_empty_does_not_restart(ring):
    ring.place_at(256)
    assert ring.must_send(64) == 0
    assert ring.must_send(64) == 64
    record = ring.receive()
    ring.receive().release()
    assert ring.must_send(64) == 128
    del record


def test_a_full_ring_has_room_after_a_release(ring):
    for _ in range(4):
        ring.must_send(256)
    assert not ring.send(64)
    assert not ring.send(64)
    first = ring.receive(0)
    assert not ring.send(64)  # receiving does not release
    first.release()
    assert ring.must_send(256) == 0
    assert not ring.send(64)
    for sequence in (1, 2, 3, 4):
        ring.receive(sequence).release()
    assert ring.consumer.receive() is None


def test_the_smallest_ring_holds_one_header(ring_of):
    ring = ring_of(64)
    for _ in range(3):
        assert ring.pass_on(64) == 0
    ring.must_send(64)
    assert not ring.send(64)


def test_positions_exceed_32_bits(ring_of):
    capacity = 1 << 24
    ring = ring_of(capacity)
    record = 64 + (capacity // 64 * 40 // 64) * 64
    n_restarts = (1 << 33) // capacity
    for sequence in range(n_restarts):
        claim = ring.producer.claim(
            lib.SHMB_POSTERIORS, 1, record - 64, dtype=lib.SHMB_UINT8, sequence=sequence
        )
        claim.matrix[0, -64:] = sequence % 251
        claim.commit()
        received = ring.consumer.receive()
        assert received.sequence == sequence
        assert (received.matrix[0, -64:] == sequence % 251).all()
        received.release()
    assert ring.tail > (1 << 33) - capacity
    ring.sequence = n_restarts
    ring.pass_on(640)


def test_64_bit_sequence_numbers_arrive(ring: RingPair):
    claim = ring.producer.claim(lib.SHMB_POSTERIORS, 0, 0, sequence=(1 << 64) - 1)
    claim.commit(lib.SHMB_ANSWERED, 0.0, (1 << 64) - 3)
    record = ring.consumer.receive()
    assert (record.sequence, record.states) == ((1 << 64) - 1, (1 << 64) - 3)
