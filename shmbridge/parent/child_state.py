"""The life of a child, and whether it can go on without the user."""

from __future__ import annotations

import enum
from typing import Optional

from ..channel import Channel

__all__ = ["ChildState", "is_users_turn"]


class ChildState(enum.Enum):
    """The life of a child: it is ready once it has sent its hello."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "ended"


def is_users_turn(channel: Channel, oldest: int, no_room: Optional[tuple[int, int]]) -> bool:
    """Return whether Sprint cannot answer until the user sends a claim, or releases results.

    Args:
        channel: of the child.
        oldest: the sequence number of the oldest request that is not answered.
        no_room: of the child.
    """
    claim = channel.sender.oldest_open()
    if claim is not None and claim[0] < oldest:
        return True
    receiver = channel.receiver
    return no_room == (oldest, receiver.released) and receiver.used > 0
