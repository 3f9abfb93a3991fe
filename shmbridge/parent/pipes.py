"""A child's output lines and control messages, of which a bounded number is kept."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import termios
from collections import deque
from typing import Optional

from ..errors import ProtocolError
from ..protocol import Message, check_versions
from .severity import Severity
from .watcher import errors_contained

_sprint_log = logging.getLogger("shmbridge.sprint")

# For the error that reports a death: RASR writes 50 lines of stack trace below the reason.
_KEPT_LINES = 100
_KEPT_ERRORS = 10
_READ_SIZE = 65536  # bytes
_MAX_LINE = 4096  # bytes; a longer line is split or cut there
_LATEST_COUNTS = frozenset({"dimension", "no_room", "ready_for_requests"})


def read_some(descriptor: int) -> Optional[bytes]:
    """Return the bytes that a pipe contains; b"" at its end, None if there are none now."""
    try:
        return os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return None


def read_available(descriptor: int) -> bytes:
    """Return what a pipe contains now: at most its capacity, even if a process goes on writing."""
    count = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    return os.read(descriptor, count) if count else b""


class OutputLines:
    """Log a child's output line by line, and keep the last lines.

    Thread-safety: one thread feeds; any other may read the attributes.

    Attributes:
        last: the last lines.
        errors: the first lines that report errors.
        latest_error: the lines of the latest report of an error.
    """

    def __init__(self) -> None:
        self.last: deque[str] = deque(maxlen=_KEPT_LINES)
        self.errors: list[str] = []
        self.latest_error: tuple[str, ...] = ()
        self._severity = Severity()
        self._partial = b""

    def feed(self, data: bytes, pid: int) -> None:
        """Log the lines that these bytes complete; no bytes mean the end of the output."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > _MAX_LINE or (not data and self._partial):
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            text = line[:_MAX_LINE].decode("utf-8", "replace").rstrip("\r")
            self.last.append(text)
            level = self._severity.of(text)
            if level >= logging.ERROR and len(self.errors) < _KEPT_ERRORS:
                self.errors.append(text)
            if level >= logging.ERROR:
                before = () if self._severity.begins else self.latest_error
                self.latest_error = (*before, text)[-_KEPT_ERRORS:]
            with errors_contained():
                _sprint_log.log(level, "[%d] %s", pid, text)


class LatestMessages:
    """At most one control message of each kind, as `shmbridge.protocol` allows.

    A child that never stops sending fills no memory, however long the trainer is busy elsewhere.

    Thread-safety: one thread puts; any other may read.

    Attributes:
        sprint_pid: from the hello: any value. If a wrapper started Sprint, it is not the pid of the wrapper.
    """

    def __init__(self) -> None:
        self.sprint_pid: object = None
        self._messages: dict[str, Message] = {}
        self._read: dict[str, Message] = {}

    def put(self, message: Message) -> None:
        """Store the message, unless an earlier one of its kind counts.

        Raises:
            ProtocolError: the message is a second hello or that of another version, its value is invalid, or
                a child must not send it.
        """
        kind = message["kind"]
        if kind == "hello":
            if kind in self._messages:
                raise ProtocolError("Sprint sent a second hello [bad-message]")
            check_versions(message)
            self.sprint_pid = message.get("pid")
            self._messages[kind] = message
        elif kind == "dimension" and message["num_labels"] < 1:
            raise ProtocolError(
                f"Sprint's number of labels is {message['num_labels']}; it must be at least 1 [bad-message]"
            )
        elif kind in _LATEST_COUNTS:
            self._messages[kind] = message
        elif kind == "exception":
            self._messages.setdefault(kind, message)
        else:
            raise ProtocolError(f"Sprint sent a message {kind!r}; only the trainer may [bad-message]")

    def unread(self, kind: str) -> Optional[Message]:
        """Return the message of this kind; None if there is none, or if it was marked as read."""
        message = self._messages.get(kind)
        return None if message is self._read.get(kind) else message

    def mark_read(self, message: Message) -> None:
        """Mark a message as read. Another of its kind may have come meanwhile."""
        self._read[message["kind"]] = message

    def peek(self, kind: str) -> Optional[Message]:
        """Return the message of this kind; None if there is none."""
        return self._messages.get(kind)
