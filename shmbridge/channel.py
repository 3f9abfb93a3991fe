"""One end of the bridge: the ring that it writes, the ring that it reads, and its doorbell."""

from __future__ import annotations

from typing import Optional

from .doorbell import Doorbell, WaitList
from .memory import ERROR_SIGNALS_LINES, POSTERIORS_LINES, Geometry, Memory
from .ring import Consumer, Producer


class Channel:
    """The rings and doorbells of one child, seen from one end.

    Thread-safety: any thread may send and receive; one thread at a time may wait.

    Attributes:
        sender: the ring end that this process fills (posteriors in the parent, error signals in the child).
        receiver: the ring end that this process reads.
        doorbell: this process sleeps at it.
        memory: the mapping that contains the rings.
    """

    def __init__(self, memory: Memory, sender: Producer, receiver: Consumer, doorbell: Doorbell) -> None:
        self.memory = memory
        self.sender = sender
        self.receiver = receiver
        self.doorbell = doorbell
        self._for_records = WaitList([receiver])
        self._for_room = WaitList([sender])

    @classmethod
    def of_parent(cls, memory: Memory, geometry: Geometry, own: Doorbell, peer: Doorbell) -> Channel:
        """Open the trainer's end, which sends posteriors and receives error signals."""
        return cls(
            memory,
            Producer(memory, POSTERIORS_LINES, geometry.posteriors_offset, geometry.posteriors_size, peer),
            Consumer(
                memory, ERROR_SIGNALS_LINES, geometry.error_signals_offset, geometry.error_signals_size, peer
            ),
            own,
        )

    @classmethod
    def of_child(cls, memory: Memory, geometry: Geometry, own: Doorbell, peer: Doorbell) -> Channel:
        """Open Sprint's end, which receives posteriors and sends error signals."""
        return cls(
            memory,
            Producer(
                memory, ERROR_SIGNALS_LINES, geometry.error_signals_offset, geometry.error_signals_size, peer
            ),
            Consumer(memory, POSTERIORS_LINES, geometry.posteriors_offset, geometry.posteriors_size, peer),
            own,
        )

    def wait(self, *, for_room: bool = False, timeout: Optional[float] = None) -> bool:
        """Sleep until there may be a record to receive (with `for_room`: room to send), or a poke.

        Call it with `for_room` only after a claim that found no room. Such a wait ignores records: one that
        the caller must not receive yet would end every wait at once.

        Returns:
            False if `timeout` (seconds) ran out.
        """
        return self.doorbell.wait(self._for_room if for_room else self._for_records, timeout)

    def disown(self) -> None:
        """Leave the rings to the forking process; for the child of a fork."""
        self.sender.disown()
        self.receiver.disown()
