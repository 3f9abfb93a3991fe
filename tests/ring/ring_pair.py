"""Both ends of one ring in one process, and a way to read and write the shared memory behind their backs."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, Optional

import numpy as np

from shmbridge._native import lib
from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.memory import PAGE, RECORDS_OFFSET, Memory, create_shared_memory
from shmbridge.ring import Claim, Consumer, Producer, Record

LINES = PAGE
TAIL = LINES
HEAD = LINES + 128
HEADER = struct.Struct("<QQQdQIIIIII")
FIELDS = (
    "position",
    "size",
    "sequence",
    "loss",
    "states",
    "kind",
    "status",
    "dtype",
    "name_length",
    "rows",
    "columns",
)
DTYPES = {
    lib.SHMB_FLOAT32: np.dtype(np.float32),
    lib.SHMB_UINT32: np.dtype(np.uint32),
    lib.SHMB_UINT8: np.dtype(np.uint8),
}
_BYTES = np.random.default_rng(1).integers(0, 256, 1 << 17, np.uint8)


def pattern(sequence: int, length: int) -> np.ndarray[Any, Any]:
    """Bytes that tell one record from any other near it."""
    start = sequence * 7919 % (1 << 16)
    return _BYTES[start : start + length]


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def mappings_of_objects() -> list[tuple[int, int]]:
    """(begin, end) of what this process has mapped of shared memory without a name."""
    with open("/proc/self/maps") as maps:
        ends = [line.split()[0].split("-") for line in maps if "/dev/shm" in line]
    return [(int(begin, 16), int(end, 16)) for begin, end in ends]


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
        at = address(claim.matrix) - 64
        claim.abort()
        self.poke(TAIL, 0)  # as if it had never been
        return at

    def close(self) -> None:
        self.raw.close()
        os.close(self.fd)

    # --- records of so many bytes in the ring, header included

    def claim(self, size: int) -> Optional[Claim]:
        claim = self.producer.claim(
            lib.SHMB_POSTERIORS, 1, size - 64, sequence=self.sequence, dtype=lib.SHMB_UINT8
        )
        if claim is not None:
            claim.matrix[...] = pattern(self.sequence, size - 64)
            self.sequence += 1
        return claim

    def send(self, size: int) -> bool:
        """False where the ring is full."""
        claim = self.claim(size)
        if claim is None:
            return False
        claim.commit()
        return True

    def must_send(self, size: int) -> int:
        """The offset in the ring at which the record was put."""
        claim = self.claim(size)
        assert claim is not None
        offset = self.offset(claim.matrix)
        claim.commit()
        return offset

    def receive(self, sequence: Optional[int] = None, size: Optional[int] = None) -> Record:
        """The next record; it has to be there, and to hold what was sent."""
        record = self.consumer.receive()
        assert record is not None
        self.check(record)
        if sequence is not None:
            assert record.sequence == sequence
        if size is not None:
            assert record.matrix.size == size - 64
        return record

    def pass_on(self, size: int) -> int:
        """Send, receive and release; the offset of the record."""
        offset = self.must_send(size)
        self.receive(size=size).release()
        return offset

    def place_at(self, offset: int) -> None:
        """Bring an empty ring to the offset."""
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
        """Where in the ring a record lies whose matrix this is (and which has no name)."""
        return address(matrix) - 64 - self.base

    # --- behind the ends' backs

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

    def header(self, offset: int) -> dict[str, Any]:
        return dict(zip(FIELDS, HEADER.unpack_from(self.raw, RECORDS_OFFSET + offset)))

    def poke_header(self, offset: int, **changes: Any) -> None:
        values = {**self.header(offset), **changes}
        HEADER.pack_into(self.raw, RECORDS_OFFSET + offset, *(values[field] for field in FIELDS))

    def wait(self, end: str, timeout: float, spin_ns: int = 0) -> bool:
        ring_end, bell = {
            "consumer": (self.consumer, self.consumer_bell),
            "producer": (self.producer, self.producer_bell),
        }[end]
        return bell.wait(WaitList([ring_end]), timeout, spin_ns)
