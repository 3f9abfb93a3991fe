"""Names, dtypes and sizes up to and beyond their limits."""

from __future__ import annotations

import numpy as np
import pytest
from ring_pair import DTYPES, RECORDS_OFFSET, address, pattern

from shmbridge._native import lib
from shmbridge.errors import ResourceError, SegmentTooLargeError, UsageError
from shmbridge.memory import Memory


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 4095, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
def test_names_of_every_length_arrive_with_their_matrix(ring_of, length, dtype):
    ring = ring_of(8192)
    name = bytes(pattern(3, length))  # includes zeros and invalid UTF-8, which the ring does not check
    for sequence in range(4):  # wraps at the end of the ring
        claim = ring.producer.claim(lib.SHMB_AUTOMATON, 5, 11, name=name, dtype=dtype, sequence=sequence)
        assert address(claim.matrix) % 64 == 0
        claim.matrix[...] = np.arange(55).reshape(5, 11) + sequence
        claim.commit()
        record = ring.consumer.receive()
        assert record.name == name
        assert record.kind == lib.SHMB_AUTOMATON
        assert record.matrix.dtype == DTYPES[dtype]
        assert record.matrix.flags.c_contiguous
        assert record.matrix.flags.aligned
        assert address(record.matrix) % 64 == 0
        np.testing.assert_array_equal(record.matrix, np.arange(55).reshape(5, 11) + sequence)
        size = ring.header((address(record.matrix) - ring.base) - 64 - -(-length // 64) * 64).size
        assert size == 64 + -(-length // 64) * 64 + -(-55 * DTYPES[dtype].itemsize // 64) * 64
        record.release()
    assert ring.head == ring.tail


@pytest.mark.parametrize("length", [4097, 5000, 1 << 20])
def test_a_name_that_is_too_long_is_refused_with_both_lengths(ring_of, length):
    ring = ring_of(8192)
    with pytest.raises(SegmentTooLargeError, match=rf"name has {length} bytes; it must have at most 4096"):
        ring.producer.claim(lib.SHMB_POSTERIORS, 1, 1, name=b"x" * length)
    assert ring.producer.used == 0
    ring.pass_on(8192)


def test_a_record_larger_than_the_ring_is_refused_with_both_sizes_and_the_option(ring):
    with pytest.raises(SegmentTooLargeError) as error:
        ring.producer.claim(lib.SHMB_POSTERIORS, 16, 15 + 1)
    message = str(error.value)
    assert "16 x 16" in message
    assert "(1088 bytes)" in message
    assert "(1024 bytes)" in message
    assert "set the option ring_size to at least 1088" in message
    assert isinstance(error.value, UsageError)
    assert isinstance(error.value, ValueError)
    ring.pass_on(1024)


def test_a_name_can_make_a_record_too_large(ring):
    ring.producer.claim(lib.SHMB_POSTERIORS, 16, 15).abort()
    assert ring.consumer.receive() is None
    with pytest.raises(SegmentTooLargeError, match="1088 bytes"):
        ring.producer.claim(lib.SHMB_POSTERIORS, 16, 15, name=b"n")


def test_too_large_takes_precedence_over_full_and_held(ring):
    ring.must_send(512)
    claim = ring.claim(512)
    with pytest.raises(SegmentTooLargeError):
        ring.claim(1088)
    claim.abort()
    with pytest.raises(SegmentTooLargeError):
        ring.claim(1088)


@pytest.mark.parametrize("rows", [1, 3, 1 << 16, (1 << 32) - 1])
@pytest.mark.parametrize("columns", [1 << 20, 1 << 30, (1 << 32) - 1])
def test_sizes_near_every_overflow_are_too_large(ring, rows, columns):
    for dtype in DTYPES:
        with pytest.raises(SegmentTooLargeError, match=f"{rows} x {columns}"):
            ring.producer.claim(lib.SHMB_POSTERIORS, rows, columns, dtype=dtype)
    assert ring.tail == 0


@pytest.mark.parametrize(("rows", "columns"), [(1 << 32, 1), (1, 1 << 32), (-1, 1), (1, -1)])
def test_sizes_beyond_32_bits_raise_an_error_and_change_nothing(ring, rows, columns):
    with pytest.raises((SegmentTooLargeError, OverflowError)):
        ring.producer.claim(lib.SHMB_POSTERIORS, rows, columns)
    ring.pass_on(1024)


@pytest.mark.parametrize("dtype", [0, lib.SHMB_FLOAT64, 5, 99])
def test_dtypes_that_are_not_valid_in_records_are_refused(ring, dtype):
    with pytest.raises(ValueError, match=f"dtype is {dtype}; it must be from 1 to 3"):
        ring.producer.claim(lib.SHMB_POSTERIORS, 1, 1, dtype=dtype)
    ring.pass_on(1024)


def test_the_size_of_a_record_follows_from_the_layout():
    size = lib.shmb_record_size
    assert size(lib.SHMB_FLOAT32, 0, 0, 0) == 64
    assert size(lib.SHMB_FLOAT32, 1, 16, 0) == 128
    assert size(lib.SHMB_FLOAT32, 1, 17, 0) == 192
    assert size(lib.SHMB_UINT8, 1, 17, 0) == 128
    assert size(lib.SHMB_FLOAT32, 1, 17, 1) == 256
    assert size(lib.SHMB_FLOAT32, 1, 1, 4097) == 0
    assert size(lib.SHMB_FLOAT64, 1, 1, 0) == 0
    assert size(lib.SHMB_UINT8, (1 << 32) - 1, (1 << 32) - 1, 0) == 0
    assert size(lib.SHMB_UINT8, 1 << 32, 0, 0) == 0


def test_used_counts_claims_and_held_records(ring):
    assert (ring.producer.used, ring.consumer.used) == (0, 0)
    claim = ring.claim(256)
    assert (ring.producer.used, ring.consumer.used) == (256, 0)
    claim.commit()
    record = ring.receive(0)
    assert (ring.producer.used, ring.consumer.used) == (256, 256)
    record.release()
    assert ring.consumer.used == 0


@pytest.mark.parametrize(
    ("lines", "records", "capacity"),
    [
        (4096, RECORDS_OFFSET, 0),
        (4096, RECORDS_OFFSET, 100),
        (4096, RECORDS_OFFSET, 1024 + 64),
        (4096, RECORDS_OFFSET + 8, 512),
        (4096 + 64, RECORDS_OFFSET, 1024),
        (RECORDS_OFFSET + 1024, RECORDS_OFFSET, 1024),
        (4096, RECORDS_OFFSET + 1024, 64),
        ((1 << 64) - 128, RECORDS_OFFSET, 1024),
        (4096, (1 << 64) - 64, 1024),
        (4096, RECORDS_OFFSET, (1 << 64) - 64),
    ],
)
def test_an_end_outside_the_memory_cannot_be_opened(ring, lines, records, capacity):
    memory = Memory(ring.fd, RECORDS_OFFSET + 1024)
    with pytest.raises((MemoryError, UsageError)):
        type(ring.producer)(memory, lines, records, capacity, ring.consumer_bell)


def test_memory_that_is_too_small_is_refused(ring):
    with pytest.raises(ResourceError, match=f"has {RECORDS_OFFSET + 1024} bytes; it must have {1 << 30}"):
        Memory(ring.fd, 1 << 30)
