"""Both ends of one ring in one process, and direct access to the shared memory between them."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, Optional

import numpy as np

from shmbridge._native import ffi, lib
from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.memory import PAGE, RECORDS_OFFSET, Memory, create_shared_memory
from shmbridge.ring import Claim, Consumer, Producer, Record

LINES = PAGE
TAIL = LINES
HEAD = LINES + lib.SHMB_HEAD_OFFSET
HEADER_SIZE = lib.SHMB_HEADER_SIZE
DTYPES = {
    lib.SHMB_FLOAT32: np.dtype(np.float32),
    lib.SHMB_UINT32: np.dtype(np.uint32),
    lib.SHMB_UINT8: np.dtype(np.uint8),
}
_BYTES = np.random.default_rng(1).integers(0, 256, 1 << 17, np.uint8)


def pattern(sequence: int, length: int) -> np.ndarray[Any, Any]:
    """Return bytes that distinguish a record from those near it."""
    start = sequence * 7919 % (1 << 16)
    return _BYTES[start : start + length]


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def shared_mappings() -> list[tuple[int, int]]:
    """Return (begin, end) of each mapping of shared memory in this process."""
    with open("/proc/self/maps") as maps:
        ends = [line.split()[0].split("-") for line in maps if "/memfd:shmbridge" in line]
    return [(int(begin, 16), int(end, 16)) for begin, end in ends]


def is_mapped(at: int) -> bool:
    """Return whether shared memory is mapped at the address."""
    return any(begin <= at < end for begin, end in shared_mappings())


class RingPair:
    """A ring of any capacity that is a multiple of 64, with a doorbell for each end."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.fd = create_shared_memory(RECORDS_OFFSET + capacity)
        bell_fd = create_shared_memory(PAGE)
        memory = Memory(self.fd, RECORDS_OFFSET + capacity)
        bell_memory = Memory(bell_fd, PAGE)
        os.close(bell_fd)
        self.consumer_bell = Doorbell(memory, create=True)
        self.producer_bell = Doorbell(bell_memory, create=True)
        self.raw = mmap.mmap(self.fd, RECORDS_OFFSET + capacity)
        self.base = self._address_of_first_record(memory)
        self.producer = Producer(memory, LINES, RECORDS_OFFSET, capacity, self.consumer_bell)
        self.consumer = Consumer(memory, LINES, RECORDS_OFFSET, capacity, self.producer_bell)
        self.sequence = 0

    def _address_of_first_record(self, memory: Memory) -> int:
        producer = Producer(memory, LINES, RECORDS_OFFSET, self.capacity, self.consumer_bell)
        claim = producer.claim(lib.SHMB_POSTERIORS, 0, 0)
        assert claim is not None
        at = address(claim.matrix) - HEADER_SIZE
        claim.abort()
        self.poke(TAIL, 0)  # undoes the claim
        return at

    def close(self) -> None:
        self.raw.close()
        os.close(self.fd)

    # --- records; sizes are in bytes and include the header

    def claim(self, size: int) -> Optional[Claim]:
        """Claim a record and fill it."""
        claim = self.producer.claim(
            lib.SHMB_POSTERIORS, 1, size - HEADER_SIZE, sequence=self.sequence, dtype=lib.SHMB_UINT8
        )
        if claim is not None:
            claim.matrix[...] = pattern(self.sequence, size - HEADER_SIZE)
            self.sequence += 1
        return claim

    def send(self, size: int) -> bool:
        """Send a record. Returns False if the ring is full."""
        claim = self.claim(size)
        if claim is None:
            return False
        claim.commit()
        return True

    def must_send(self, size: int) -> int:
        """Send a record. Returns its offset in the ring."""
        claim = self.claim(size)
        assert claim is not None
        offset = self.offset(claim.matrix)
        claim.commit()
        return offset

    def receive(self, sequence: Optional[int] = None, size: Optional[int] = None) -> Record:
        """Return the next record, after a check of its content."""
        record = self.consumer.receive()
        assert record is not None
        self.check(record)
        if sequence is not None:
            assert record.sequence == sequence
        if size is not None:
            assert record.matrix.size == size - HEADER_SIZE
        return record

    def pass_on(self, size: int) -> int:
        """Send, receive and release a record. Returns its offset."""
        offset = self.must_send(size)
        self.receive(size=size).release()
        return offset

    def place_at(self, offset: int) -> None:
        """Move the positions of an empty ring to the offset."""
        assert self.tail == self.head
        if offset == 0:
            if self.tail % self.capacity:
                self.pass_on(self.capacity - self.tail % self.capacity)
            return
        if self.tail % self.capacity:
            self.place_at(0)
        self.pass_on(offset)
        assert self.tail % self.capacity == offset

    def check(self, record: Record) -> None:
        expected = pattern(record.sequence, record.matrix.size).reshape(record.matrix.shape)
        np.testing.assert_array_equal(record.matrix, expected)

    def offset(self, matrix: np.ndarray[Any, Any]) -> int:
        """Return the offset in the ring of the record, without a name, that has this matrix."""
        return address(matrix) - HEADER_SIZE - self.base

    # --- direct access to the shared memory

    @property
    def tail(self) -> int:
        return self.peek(TAIL)

    @property
    def head(self) -> int:
        return self.peek(HEAD)

    def peek(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self.raw, at)[0])

    def poke(self, at: int, value: int) -> None:
        struct.pack_into("<Q", self.raw, at, value % (1 << 64))

    def header(self, offset: int) -> Any:
        """Return a copy of the record header at the offset, as a C struct."""
        at = RECORDS_OFFSET + offset
        header = ffi.new("shmb_record_header *")
        ffi.memmove(header, self.raw[at : at + HEADER_SIZE], HEADER_SIZE)
        return header

    def poke_header(self, offset: int, **changes: Any) -> None:
        """Change fields of the record header at the offset."""
        header, at = self.header(offset), RECORDS_OFFSET + offset
        for field, value in changes.items():
            setattr(header, field, value)
        self.raw[at : at + HEADER_SIZE] = ffi.buffer(header)[:]

    def wait(self, end: str, timeout: float, spin_ns: int = 0) -> bool:
        ring_end, bell = {
            "consumer": (self.consumer, self.consumer_bell),
            "producer": (self.producer, self.producer_bell),
        }[end]
        return bell.wait(WaitList([ring_end]), timeout, spin_ns)
