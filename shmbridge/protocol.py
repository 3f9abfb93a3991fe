"""Control messages on the two pipes between parent and child: JSON objects, each after its length.

    parent -> child   hello               protocol, abi, posteriors_size, error_signals_size
    child -> parent   hello               protocol, abi, pid, python, numpy, sprint_version
    child -> parent   dimension           num_labels             (as soon as Sprint reports it)
    child -> parent   no_room             sequence, released     (this answer does not fit yet)
    child -> parent   ready_for_requests                         (Sprint waits for the parent's requests)
    child -> parent   exception           exception_type, message, traceback   (the child is about to end)
    parent -> child   exit

Segments never travel in the pipes. A closed pipe means that the peer is gone.

A peer may read several messages of one kind at a time. It needs to keep one of each kind:

    hello               the only one; a second hello breaks the protocol
    dimension           the latest: Sprint's number of labels from then on
    no_room             the latest: the child waits for room for one answer at a time
    ready_for_requests  any
    exception           the first: later exceptions follow from it
    exit                any
"""

from __future__ import annotations

import json
import os
import struct
import traceback
from typing import Any

from ._native import lib
from .errors import ProtocolError

PROTOCOL_VERSION = 3
MAX_MESSAGE = 1 << 20  # bytes; the longest message that shmbridge sends holds a traceback
MAX_REPORT = 8192  # bytes of a failure report's message, and of its traceback
CHILD_LINE = "shmbridge child"  # at the beginning of each line that the child prints on Sprint's output

_LENGTH = struct.Struct("<I")

Message = dict[str, Any]

# The required fields of each kind. A message may hold more, for later versions.
_FIELDS: dict[str, dict[str, type]] = {
    "hello": {"protocol": int, "abi": int},
    "dimension": {"num_labels": int},
    "no_room": {"sequence": int, "released": int},
    "ready_for_requests": {},
    "exception": {"exception_type": str, "message": str, "traceback": str},
    "exit": {},
}


def encode(kind: str, **fields: object) -> bytes:
    """Return the bytes of a message.

    Raises:
        ProtocolError: the message is too long.
    """
    body = json.dumps({"kind": kind, **fields}).encode("ascii")
    _check_length(len(body))
    return _LENGTH.pack(len(body)) + body


def send(descriptor: int, kind: str, **fields: object) -> None:
    """Write a message to a pipe.

    Raises:
        OSError: the pipe is closed (BrokenPipeError) or broken.
    """
    data = memoryview(encode(kind, **fields))
    while data:
        data = data[os.write(descriptor, data) :]


class Decoder:
    """Splits the bytes of a pipe into messages.

    Not thread-safe: one thread reads a pipe.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete.

        Raises:
            ProtocolError: a message is too long, is not a JSON object, has an unknown kind or lacks a field.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            _check_length(length)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages


def _check_length(length: int) -> None:
    if length > MAX_MESSAGE:
        raise ProtocolError(
            f"a control message is {length} bytes long; it must be at most {MAX_MESSAGE} bytes [bad-message]"
        )


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a control message is not valid JSON: {error} [bad-message]") from None
    if not isinstance(message, dict):
        raise ProtocolError(
            f"a control message is of type {type(message).__name__}; it must be an object [bad-message]"
        )
    kind = message.get("kind")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise ProtocolError(f"a control message is of the unknown kind {str(kind)[:80]!r} [bad-message]")
    for name, expected in fields.items():
        value = message.get(name)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ProtocolError(
                f"{name} in a control message of kind {kind!r} is {str(value)[:80]!r}; "
                f"it must be of type {expected.__name__} [bad-message]"
            )
    return message


def check_versions(message: Message) -> None:
    """Check that a hello comes from the same version of shmbridge.

    Raises:
        ProtocolError: the peer's protocol, or its layout of the shared memory, is another version.
    """
    for name, ours in (("protocol", PROTOCOL_VERSION), ("abi", lib.SHMB_ABI)):
        if message[name] != ours:
            raise ProtocolError(
                f"the peer has {name} version {message[name]}, this side has {ours}; "
                "install the same shmbridge in the trainer's Python and in Sprint's [versions]"
            )


def describe_exception(error: BaseException) -> dict[str, str]:
    """Return the fields of an exception message or a failure report, cut to a bounded size."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        "exception_type": type(error).__name__,
        "message": str(error)[:MAX_REPORT],
        "traceback": text[-MAX_REPORT:],
    }


def encode_report(error: BaseException) -> bytes:
    """Return the exception as a failure report: JSON, stored as the matrix of a failed record."""
    return json.dumps(describe_exception(error)).encode("ascii")


def read_report(report: bytes, subject: str) -> tuple[str, str, str]:
    """Return type, message and traceback of a failure report.

    Args:
        report: the bytes that encode_report returned.
        subject: the request that failed, for the error's message.

    Raises:
        ProtocolError: the report is not valid.
    """
    try:
        fields = json.loads(report)
        texts = (fields["exception_type"], fields["message"], fields["traceback"])
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("not texts")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(
            f"the failure report for {subject} cannot be read: {error} [bad-answer]"
        ) from None
    return texts
