"""A Sprint that writes invalid records, positions and control messages.

The setting `mark` names the file. It contains Python code, in which `f` is the Forger; the first child that
reads a segment while the file exists removes it, runs the code, and answers nothing more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
from typing import Any, Optional
from unittest import mock

import prelude
from prelude import setting

from shmbridge import protocol  # noqa: F401 - for the code of the tests
from shmbridge._native import ffi, lib
from shmbridge.child.link import ParentLink
from shmbridge.child.request import ParentSegment
from shmbridge.doorbell import Doorbell
from shmbridge.memory import PAGE
from shmbridge.ring import Record

RING = 1 << 20
MARK = setting("mark")
bells: list[Any] = []  # the doorbells of this side: Sprint's own, and its trainer's
sequences: list[int] = []  # the sequence numbers of the requests


def note_doorbell(*arguments: Any, **more: Any) -> Doorbell:
    """Open a doorbell, and note its pointer."""
    bell = Doorbell(*arguments, **more)
    bells.append(bell.pointer)
    return bell


def note_segment(link: ParentLink, name: str, record: Record) -> ParentSegment:
    """Create a request, and note its sequence number."""
    sequences.append(record.sequence)
    return ParentSegment(link, name, record)


class Forger:
    """Sprint's ends of the rings, and its pipe."""

    def __init__(self, link: ParentLink) -> None:
        self.link = link
        memory = link.channel.memory
        self.raw = (ctypes.c_ubyte * memory.size).from_address(memory.address)
        # The positions that Sprint writes: the tail of the answers, and the head of the posteriors.
        self.tail = ctypes.c_uint64.from_buffer(self.raw, PAGE + 256)
        self.head = ctypes.c_uint64.from_buffer(self.raw, PAGE + 128)

    @property
    def sequence(self) -> int:
        """The number of the request that Sprint has read last."""
        return sequences[-1]

    def answer(self, body: Optional[bytes] = None, publish: bool = True, **changes: Any) -> None:
        """Send a valid error signal of 3 x 4, or another body, except for the changes."""
        size = 128 if body is None else 64 + -(-len(body) // 64) * 64
        fields = {
            "position": self.tail.value,
            "size": size,
            "sequence": self.sequence,
            "loss": 1.5,
            "states": 0,
            "kind": lib.SHMB_ERROR_SIGNAL,
            "status": 0,
            "dtype": lib.SHMB_FLOAT32,
            "name_length": 0,
            "rows": 3,
            "columns": 4,
            **changes,
        }
        at = 2 * PAGE + RING + self.tail.value % RING
        self.raw[at : at + 64] = ffi.buffer(ffi.new("shmb_record_header *", fields))[:]
        if body is not None:
            self.raw[at + 64 : at + 64 + len(body)] = list(body)
        if publish:
            self.tail.value += size
            self.poke()

    def report(self, body: bytes, **changes: Any) -> None:
        """Send the report of a failure."""
        self.answer(body, status=lib.SHMB_FAILED, dtype=lib.SHMB_UINT8, rows=1, columns=len(body), **changes)

    def message(self, data: bytes) -> None:
        """Write bytes into the pipe to the trainer."""
        os.write(self.link._c2p_fd, data)

    def json(self, text: str) -> None:
        """Send a control message with this text."""
        self.message(struct.pack("<I", len(text)) + text.encode())

    def poke(self) -> None:
        """Ring the trainer's doorbell."""
        lib.shmb_doorbell_poke(bells[1])


def callback(command: str, **arguments: Any) -> Any:
    """Run the code of the file if it exists; otherwise answer as prelude does."""
    if command == "calculate_criterion":
        mine = f"{MARK}-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(MARK, mine)  # only one of two children succeeds
        if os.path.exists(mine):
            with open(mine) as file:
                code = file.read()
            os.unlink(mine)
            exec(code, {**globals(), "f": Forger(control.link)})  # noqa: S102 - the test's own code
            while True:
                signal.pause()
    return prelude.callback(command, **arguments)


mock.patch("shmbridge.child.link.Doorbell", note_doorbell).start()
mock.patch("shmbridge.child.inbox.ParentSegment", note_segment).start()
control = prelude.init()
control.run_control_loop(callback=callback)
