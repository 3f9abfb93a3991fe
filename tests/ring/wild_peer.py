"""Random calls of a ring into which a peer writes random bytes: python wild_peer.py SEED.

Prints the number of ProtocolErrors.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from ring_pair import HEAD, TAIL, RingPair

from shmbridge.errors import ProtocolError

CAPACITY = 1024


def write_bytes(ring: RingPair) -> None:
    """Overwrite 16 bytes behind the first page."""
    at = random.randrange(4096, len(ring.raw))
    ring.raw[at : at + 16] = random.randbytes(len(ring.raw[at : at + 16]))


def write_position(ring: RingPair) -> None:
    """Overwrite the head or the tail."""
    values = [0, 64, 2**63, 2**64 - 64, random.randrange(2**64), random.randrange(40) * 64]
    ring.poke(random.choice([HEAD, TAIL]), random.choice(values))


def act(ring: RingPair, kept: list[Any]) -> None:
    """Make one random call; `kept` are open claims and unreleased records."""
    action = random.randrange(6)
    if action == 0:
        write_bytes(ring)
    elif action == 1:
        write_position(ring)
    elif action == 2:
        kept.append(ring.claim(64 * random.randrange(1, 17)))
    elif action == 3:
        ring.send(64 * random.randrange(1, 17))
    elif action == 4:
        record = ring.consumer.receive()
        if record is not None:
            assert record.matrix is not None
            record.matrix.tobytes()
            record.name  # noqa: B018 - reads the memory
            kept.append(record)
    elif kept:
        kept.pop(random.randrange(len(kept)))


random.seed(int(sys.argv[1]))
n_errors = 0
for _ in range(4000):
    ring = RingPair(CAPACITY)
    kept: list[Any] = []
    for _ in range(random.randrange(1, 12)):
        try:
            act(ring, kept)
        except ProtocolError:
            n_errors += 1
        except BufferError:
            pass
    ring.close()
print("errors", n_errors)
