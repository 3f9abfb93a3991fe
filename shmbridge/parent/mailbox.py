"""The control messages of a child that have come and were not taken yet."""

from __future__ import annotations

from typing import Optional

from ..errors import ProtocolError
from ..protocol import Message

_NEWEST_COUNTS = frozenset({"dimension", "no_room", "ready_for_requests"})


class Mailbox:
    """Holds one message of each kind at most, as `shmbridge.protocol` says.

    So a child that never stops sending fills no memory, however long the trainer is busy elsewhere.

    Thread-safety: one thread puts; any other may take and look.
    """

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._greeted = False  # a hello that was taken is still the only one

    def put(self, message: Message) -> None:
        """Keep the message, unless one that is there says all that it would.

        Raises:
            ProtocolError: it is a second hello, or none that a child sends.
        """
        kind = message["kind"]
        if kind == "hello":
            if self._greeted:
                raise ProtocolError("Sprint sent a second hello [bad-message]")
            self._greeted = True
            self._messages[kind] = message
        elif kind in _NEWEST_COUNTS:
            self._messages[kind] = message
        elif kind == "exception":
            self._messages.setdefault(kind, message)
        else:
            raise ProtocolError(f"Sprint sent {kind!r}, which is not for it to send [bad-message]")

    def take(self, kind: str) -> Optional[Message]:
        """The message of this kind, which is then gone from here; None: there is none."""
        return self._messages.pop(kind, None)

    def look(self, kind: str) -> Optional[Message]:
        """The message of this kind, which stays; None: there is none."""
        return self._messages.get(kind)
