"""The other process: opens the child's end of a channel and streams, echoes, waits or rings.

python ring_peer.py SHM_FD BELL_FD RING_SIZE MODE COUNT SPIN_NS
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import numpy as np
from ring_pair import pattern

from shmbridge._native import lib
from shmbridge.channel import Channel
from shmbridge.doorbell import Doorbell, WaitList
from shmbridge.memory import PAGE, Geometry, Memory, create_shared_memory
from shmbridge.ring import Record

RING_SIZE = 1 << 16
PARENT, CHILD = 0, 1


def sizes_of(sender: int, count: int) -> list[int]:
    """The matrices' sizes in bytes: mostly small, some nearly as large as the ring, some zero."""
    random = np.random.default_rng(sender)
    sizes = random.integers(0, 3000, count)
    large = random.random(count) < 0.01
    sizes[large] = random.integers(0, RING_SIZE - 64 - 128, int(large.sum()))
    sizes[random.random(count) < 0.02] = 0
    return [int(size) for size in sizes]


class Partner:
    """One end, with what it has sent and received; every byte is checked."""

    def __init__(self, channel: Channel, role: int, count: int, spin_ns: int) -> None:
        self.channel = channel
        self.spin_ns = spin_ns
        self.out_sizes = sizes_of(role, count)
        self.in_sizes = sizes_of(1 - role, count)
        self.role = role
        self.sent = 0
        self.received = 0
        self.n_waits = 0
        self._wait_lists = {
            False: WaitList([channel.receiver]),
            True: WaitList([channel.receiver, channel.sender]),
        }

    def wait(self, *, for_room: bool) -> None:
        self.n_waits += 1
        if not self.channel.doorbell.wait(self._wait_lists[for_room], 20.0, self.spin_ns):
            raise TimeoutError(
                f"role {self.role} waits for {'room' if for_room else 'a record'}: {self.sent} were sent, "
                f"{self.received} received"
            )

    def try_send(self) -> bool:
        sequence, size = self.sent, self.out_sizes[self.sent]
        claim = self.channel.sender.claim(
            lib.SHMB_POSTERIORS,
            1,
            size,
            name=b"%d" % sequence if sequence % 3 else b"",
            dtype=lib.SHMB_UINT8,
            sequence=sequence,
        )
        if claim is None:
            return False
        claim.matrix[0] = pattern(sequence + self.role, size)
        claim.commit(lib.SHMB_ANSWERED, sequence / 2)
        self.sent += 1
        return True

    def try_receive(self) -> Optional[Record]:
        record = self.channel.receiver.receive()
        if record is None:
            return None
        sequence = self.received
        size = self.in_sizes[sequence]
        if (record.sequence, record.loss) != (sequence, sequence / 2):
            raise AssertionError(f"{record.sequence} ({record.loss}) came where {sequence} was expected")
        if record.name != (b"%d" % sequence if sequence % 3 else b"") or record.matrix.shape != (1, size):
            raise AssertionError(f"record {sequence} has name {record.name!r}, shape {record.matrix.shape}")
        if not np.array_equal(record.matrix[0], pattern(sequence + 1 - self.role, size)):
            raise AssertionError(f"record {sequence} of {size} bytes does not hold what was sent")
        self.received += 1
        return record

    def stream(self) -> None:
        """Send as long as there is room, receive in between, hold a few records back."""
        count = len(self.out_sizes)
        held = []
        while self.sent < count or self.received < count:
            progress = False
            while self.sent < count and self.try_send():
                progress = True
            for _ in range(50):
                record = self.try_receive() if self.received < count else None
                if record is None:
                    held.clear()
                    break
                progress = True
                held.append(record)
                if len(held) == 5:
                    held.pop(2)
                    held.pop(0)
            record = None
            if not progress:
                held.clear()
                self.wait(for_room=self.sent < count)

    def ping_pong(self) -> None:
        """One record there, one back."""
        count = len(self.out_sizes)
        if self.role == CHILD and count:
            self._receive_one()
        while self.sent < count:
            while not self.try_send():
                self.wait(for_room=True)
            if self.received < count:
                self._receive_one()

    def source(self) -> None:
        """Send only."""
        while self.sent < len(self.out_sizes):
            while not self.try_send():
                self.wait(for_room=True)

    def drain(self) -> None:
        """Receive only."""
        while self.received < len(self.in_sizes):
            self._receive_one()

    def _receive_one(self) -> None:
        while self.try_receive() is None:
            self.wait(for_room=False)


@contextmanager
def with_peer(mode: str, count: int, spin_ns: int) -> Iterator[tuple[Partner, subprocess.Popen[str]]]:
    """The parent's partner, and the process that runs this file with the other."""
    geometry = Geometry.for_ring_size(RING_SIZE)
    shm_fd, bell_fd = create_shared_memory(geometry.total_size), create_shared_memory(PAGE)
    memory, bell_memory = Memory(shm_fd, geometry.total_size), Memory(bell_fd, PAGE)
    channel = Channel.of_parent(
        memory, geometry, own=Doorbell(bell_memory, create=True), peer=Doorbell(memory, create=True)
    )
    arguments = [shm_fd, bell_fd, RING_SIZE, mode, count, spin_ns]
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        pass_fds=(shm_fd, bell_fd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    os.close(shm_fd)
    os.close(bell_fd)
    try:
        yield Partner(channel, PARENT, count, spin_ns), process
    finally:
        process.kill()
        process.communicate()


def main(shm_fd: str, bell_fd: str, ring_size: str, mode: str, count: str, spin_ns: str) -> None:
    geometry = Geometry.for_ring_size(int(ring_size))
    memory, bell_memory = Memory(int(shm_fd), geometry.total_size), Memory(int(bell_fd), PAGE)
    channel = Channel.of_child(
        memory, geometry, own=Doorbell(memory, create=False), peer=Doorbell(bell_memory, create=False)
    )
    partner = Partner(channel, CHILD, int(count), int(spin_ns))
    if mode == "wait":
        print("waiting", flush=True)
        started = time.monotonic()
        try:
            while True:
                channel.doorbell.wait(WaitList([channel.receiver]), None, int(spin_ns))
                if channel.receiver.receive() is not None:
                    print("received", flush=True)
        except KeyboardInterrupt:
            print(f"interrupted {time.monotonic() - started}", flush=True)
    elif mode == "poke":
        Doorbell(bell_memory, create=False).poke()
    else:
        getattr(partner, mode)()
    print("done", partner.n_waits, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
