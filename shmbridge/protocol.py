"""The control messages on the two pipes: JSON objects with a length before them, and what is in them.

    parent -> child   hello       protocol, abi, posteriors_size, error_signals_size
    child -> parent   hello       protocol, abi, pid, python, numpy, sprint_version
    child -> parent   dimension   labels                                (as soon as Sprint tells it)
    child -> parent   no_room     sequence, released     (the answer finds no room, so far released)
    child -> parent   awaits_requests         (Sprint has begun to wait for what the parent asks)
    child -> parent   exception   exception_type, message, traceback    (the child is about to end)
    parent -> child   exit

Segments never travel here. A pipe that closes means that the peer is gone.

A peer takes messages when it comes to them, and so many may have come meanwhile. What counts then:

    hello       there is one; a second breaks the protocol
    dimension   the newest: Sprint has so many labels from then on
    no_room     the newest: the child waits for one answer's room at a time
    awaits_requests   any
    exception   the first: what is raised after it follows from it
    exit        any

So nobody has to keep more than one of a kind.
"""

from __future__ import annotations

import json
import os
import struct
import traceback
from typing import Any

from ._native import lib
from .errors import ProtocolError

PROTOCOL_VERSION = 2
MAX_MESSAGE = 1 << 20  # bytes; the longest that is sent is a traceback
MAX_REPORT = 8192  # bytes of a failure report's message and of its traceback

_LENGTH = struct.Struct("<I")

Message = dict[str, Any]

# What each kind of message must hold. A message may hold more: later versions may add.
_FIELDS: dict[str, dict[str, type]] = {
    "hello": {"protocol": int, "abi": int},
    "dimension": {"labels": int},
    "no_room": {"sequence": int, "released": int},
    "awaits_requests": {},
    "exception": {"exception_type": str, "message": str, "traceback": str},
    "exit": {},
}


def encode(kind: str, **fields: object) -> bytes:
    """The bytes of a message."""
    body = json.dumps({"kind": kind, **fields}).encode("ascii")
    if len(body) > MAX_MESSAGE:
        raise ProtocolError(
            f"a control message of {len(body)} bytes is too long: {MAX_MESSAGE} are possible [bad-message]"
        )
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
    """Turns the bytes of a pipe, in whatever pieces they come, into messages.

    Not thread-safe: one thread reads a pipe.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete.

        Raises:
            ProtocolError: a message is too long, no JSON, no object, of an unknown kind or lacks a field.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE:
                raise ProtocolError(
                    f"a control message claims {length} bytes; {MAX_MESSAGE} are possible [bad-message]"
                )
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a control message is no JSON: {error} [bad-message]") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"a control message is a {type(message).__name__}, not an object [bad-message]")
    kind = message.get("kind")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise ProtocolError(f"a control message is of the unknown kind {str(kind)[:80]!r} [bad-message]")
    for name, expected in fields.items():
        value = message.get(name)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ProtocolError(
                f"the control message {kind!r} has {name} = {str(value)[:80]!r}, "
                f"not of type {expected.__name__} [bad-message]"
            )
    return message


def check_versions(message: Message) -> None:
    """Raise ProtocolError where the hello is that of another version of shmbridge."""
    for name, ours in (("protocol", PROTOCOL_VERSION), ("abi", lib.SHMB_ABI)):
        if message[name] != ours:
            raise ProtocolError(
                f"the peer speaks {name} version {message[name]}, this side {ours}: "
                "install the same shmbridge in the trainer's Python and in Sprint's [versions]"
            )


def describe_exception(error: BaseException) -> dict[str, str]:
    """The fields of an exception message or failure report, cut to a bounded size."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {
        "exception_type": type(error).__name__,
        "message": str(error)[:MAX_REPORT],
        "traceback": text[-MAX_REPORT:],
    }


def encode_report(error: BaseException) -> bytes:
    """The exception as a failure report, the matrix of a record that has failed: JSON."""
    return json.dumps(describe_exception(error)).encode("ascii")


def read_report(report: bytes, subject: str) -> tuple[str, str, str]:
    """Type, message and traceback of a failure report.

    Args:
        report: as encode_report has made it.
        subject: what has failed, for the error's message.

    Raises:
        ProtocolError: it cannot be read.
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
