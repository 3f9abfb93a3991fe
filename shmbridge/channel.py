"""One end of the bridge: the ring that this end writes, the ring that it reads, and where it sleeps."""

from __future__ import annotations

from typing import Optional

from .doorbell import Doorbell, WaitList
from .memory import ERROR_SIGNALS_LINES, POSTERIORS_LINES, Geometry, Memory
from .ring import Consumer, Producer


class Channel:
    """The rings and doorbells of one instance, seen from one end.

    Thread-safety: sending and receiving may happen in any thread; one thread at a time may wait.

    Attributes:
        sender: the ring end that this process fills (posteriors in the parent, error signals in the child).
        receiver: the ring end that this process reads.
        doorbell: where this process sleeps.
        memory: in which the rings lie.
    """

    def __init__(self, memory: Memory, sender: Producer, receiver: Consumer, doorbell: Doorbell) -> None:
        self.memory = memory
        self.sender = sender
        self.receiver = receiver
        self.doorbell = doorbell
        self._wait_lists = {
            False: WaitList([receiver]),
            True: WaitList([sender]),
        }

    @classmethod
    def of_parent(cls, memory: Memory, geometry: Geometry, own: Doorbell, peer: Doorbell) -> Channel:
        """The trainer's end: sends posteriors, receives error signals."""
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
        """Sprint's end: receives posteriors, sends error signals."""
        return cls(
            memory,
            Producer(
                memory, ERROR_SIGNALS_LINES, geometry.error_signals_offset, geometry.error_signals_size, peer
            ),
            Consumer(memory, POSTERIORS_LINES, geometry.posteriors_offset, geometry.posteriors_size, peer),
            own,
        )

    def wait(self, *, for_room: bool = False, timeout: Optional[float] = None) -> bool:
        """Sleep until there may be a record to receive, or a poke; `for_room`: room to send, or a poke.

        `for_room` wants a claim that found no room just before. It does not look for records: one that is not
        to be received yet would let no wait sleep. Returns False if the time (seconds) ran out.
        """
        return self.doorbell.wait(self._wait_lists[for_room], timeout)

    def disown(self) -> None:
        """After a fork, in the child of the fork: leave the rings to the parent for good."""
        self.sender.disown()
        self.receiver.disown()
