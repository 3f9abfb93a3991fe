"""Use a ring after its doorbell was overwritten: python overwritten_doorbell.py OFFSET HEX_BYTES."""

from __future__ import annotations

import sys

from ring_pair import RingPair

from shmbridge.errors import ProtocolError

ring = RingPair(1024)
offset, garbage = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
ring.raw[offset : offset + len(garbage)] = garbage
for _ in range(3):
    try:
        ring.consumer_bell.poke()
        ring.wait("consumer", 0.05)
        ring.wait("consumer", 0.05)
        ring.send(64)
        ring.receive().release()
    except ProtocolError as error:
        print(error)
print("alive")
