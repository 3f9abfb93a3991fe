"""One Sprint child and its channel: what was sent to it and is not answered yet."""

from __future__ import annotations

import abc
import contextlib
import json
import logging
import os
from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..channel import Channel
from ..doorbell import Doorbell
from ..errors import ProtocolError, RemoteError, ShmbridgeError, UsageError
from ..memory import Geometry, Memory
from ..ring import Claim, Record
from .options import Options
from .process import SprintProcess
from .reserve import create_object
from .watcher import Watcher

_log = logging.getLogger("shmbridge")


class Pending(abc.ABC):
    """Something that was sent to Sprint, and what is to be done with the answer.

    Attributes:
        name: the full segment name.
        rows, columns: the shape of the answer's matrix, where that is known beforehand; else 0.
        answer_kind: the kind of record that answers it.
    """

    name: str
    rows = 0
    columns = 0
    answer_kind = lib.SHMB_ERROR_SIGNAL

    @abc.abstractmethod
    def deliver(self, record: Record) -> None:
        """Take the answer: status ANSWERED or SKIPPED, checked for kind and shape."""

    @abc.abstractmethod
    def fail(self, error: ShmbridgeError) -> None:
        """There will be no answer."""


class Instance:
    """Starts a child, sends to it, and hands its answers to those who wait for them.

    Not thread-safe: the pool serialises.

    Args:
        options: the user's.
        watcher: the pool's.

    Attributes:
        ready: the child has said hello.
        labels: the label dimension that Sprint has told, or None.
        death: why there is no child (any more), or None.
        open_claims: the names, by sequence number, of what the user has claimed and not sent or given up.
    """

    def __init__(self, options: Options, watcher: Watcher) -> None:
        self._options = options
        self._watcher = watcher
        self._pending: dict[int, Pending] = {}  # by sequence number, oldest first
        self._next_sequence = 1
        self.open_claims: dict[int, str] = {}
        self.start()

    def start(self) -> None:
        """Start the child. It is not waited for: see `ready`.

        Raises:
            OptionError: the executable cannot be executed.
            ResourceError: no memory, process or descriptor is left.
        """
        self.ready = False
        self.labels: Optional[int] = None
        self.death: Optional[ShmbridgeError] = None
        self.open_claims.clear()
        self._no_room: Optional[tuple[int, int]] = None  # for which answer, and how much was released then
        geometry = Geometry.for_ring_size(self._options.ring_size)
        shm_fd = create_object(geometry.total_size)
        try:
            memory = Memory(shm_fd, geometry.total_size)
            self.channel = Channel.of_parent(
                memory, geometry, own=self._watcher.doorbell, peer=Doorbell(memory, create=True)
            )
            self._process = SprintProcess(self._options, self._watcher, shm_fd)
        finally:
            os.close(shm_fd)
        self._process.send(
            "hello",
            protocol=protocol.PROTOCOL_VERSION,
            abi=lib.SHMB_ABI,
            posteriors_size=geometry.posteriors_size,
            error_signals_size=geometry.error_signals_size,
        )

    @property
    def in_flight(self) -> int:
        """How much was sent and is not answered."""
        return len(self._pending)

    @property
    def load(self) -> int:
        """The frames that were sent and are not answered: what the child still has to do."""
        return sum(pending.rows for pending in self._pending.values())

    def try_claim(self, kind: int, rows: int, columns: int, name: bytes) -> Optional[Claim]:
        """Claim a float32 record for the child; None where there is no room now.

        Raises:
            SegmentTooLargeError: it can never fit.
        """
        claim = self.channel.sender.claim(kind, rows, columns, name=name, sequence=self._next_sequence)
        if claim is not None:
            self._next_sequence += 1
        return claim

    def send(self, claim: Claim, pending: Pending) -> None:
        """Send what was claimed; `pending` gets the answer."""
        in_order = not self._pending or next(reversed(self._pending)) < claim.sequence
        self._pending[claim.sequence] = pending
        if not in_order:  # claimed earlier than what was sent before: Sprint sees it, and answers it, first
            self._pending = dict(sorted(self._pending.items()))
        try:
            claim.commit()
        except BaseException:  # such as Ctrl-C, which may come just before or just behind the commit itself
            with contextlib.suppress(UsageError):  # it is committed: the answer will come
                claim.abort()
                self._pending.pop(claim.sequence, None)
                pending.fail(UsageError(f"sending segment {pending.name!r} was interrupted"))
            raise

    def collect(self) -> bool:
        """Hand out the answers that have come. Returns whether anything was new."""
        if self.death is not None:
            return False
        progress = self._take_messages()
        exited = self._process.exited  # before the last look at the ring: what it holds then is all
        try:
            while self.death is None:
                record = self.channel.receiver.receive()
                if record is None:
                    break
                progress = True
                self._deliver(record)
        except ProtocolError as error:
            self._condemn(error)
        if exited and self.death is None:
            self._end(self._process.death([pending.name for pending in self._pending.values()]))
            progress = True
        return progress

    def check_not_stuck(self) -> None:
        """Raise where no answer can come until the user does something; call it before waiting.

        Raises:
            UsageError: what was sent lies behind a claim that was not sent yet.
            BufferError: Sprint has told that it finds no room for its answer, and what is received is held.
        """
        oldest = next(iter(self._pending), None)
        if oldest is None:
            return
        name = self._pending[oldest].name
        for sequence, claimed in self.open_claims.items():
            if sequence < oldest:
                raise UsageError(
                    f"segment {name!r} waits behind {claimed!r}, which was claimed earlier on the same child "
                    "and is not sent yet: Sprint sees them in the order of their claims; send or abort that"
                )
        receiver = self.channel.receiver
        if self._no_room == (oldest, receiver.released) and receiver.used:
            raise BufferError(
                f"Sprint has no room to answer for {name!r}: {receiver.used} of {receiver.capacity} bytes of "
                "the ring lie behind the oldest result that is still held; release the results and their "
                "arrays, or raise the option ring_size"
            )

    def ask_to_exit(self) -> None:
        """Let the child end by itself; `close` waits for it."""
        self._process.send("exit")

    def close(self) -> None:
        """End the child; what is pending fails without notice."""
        self._process.close(self._options.exit_timeout)

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()

    def leave_to_parent(self) -> None:
        """After a fork, in the child of the fork: touch nothing of this any more."""
        self.channel.disown()
        self._process.leave_to_parent()

    # --- within

    def _take_messages(self) -> bool:
        process = self._process
        if process.broken is not None:
            self._condemn(process.broken)
            return True
        news = False
        while process.messages and process.messages[0]["kind"] != "exception":  # that is for the death notice
            message = process.messages.popleft()
            news = True
            try:
                self._take_message(message)
            except ProtocolError as error:
                self._condemn(error)
        return news

    def _take_message(self, message: protocol.Message) -> None:
        if message["kind"] == "hello":
            protocol.check_versions(message)
            _log.info(
                "Sprint (pid %s) is there: Python %s, numpy %s, callback version %s",
                *(message.get(key) for key in ("pid", "python", "numpy", "sprint_version")),
            )
            self.ready = True
        elif message["kind"] == "dimension":
            self.labels = message["labels"]
        elif message["kind"] == "no_room":
            self._no_room = (message["sequence"], message["released"])
        else:
            raise ProtocolError(f"Sprint sent {message['kind']!r}, which is not for it to send")

    def _deliver(self, record: Record) -> None:
        oldest = next(iter(self._pending), None)
        if record.sequence != oldest:
            raise ProtocolError(
                f"Sprint answered request {record.sequence} where "
                + ("nothing was asked" if oldest is None else f"{oldest} was the next to be answered")
            )
        pending = self._pending[oldest]
        if record.kind != pending.answer_kind:
            raise ProtocolError(f"the answer for {pending.name!r} is of kind {record.kind}")
        if record.status == lib.SHMB_FAILED:
            error = _remote_error(pending.name, record)
            del self._pending[oldest]
            pending.fail(error)
            return
        if record.status == lib.SHMB_ANSWERED and record.matrix is not None:
            shape = record.matrix.shape
            expected = (pending.rows, pending.columns) if pending.rows else shape
            if shape != expected:
                raise ProtocolError(f"the answer for {pending.name!r} is {shape}; it has to be {expected}")
        del self._pending[oldest]
        pending.deliver(record)

    def _condemn(self, error: ShmbridgeError) -> None:
        """The child does what it must not: whatever else it says, it is not believed."""
        self._process.kill()
        self._end(error)

    def _end(self, error: ShmbridgeError) -> None:
        self.death = error
        pending, self._pending = self._pending, {}
        for item in pending.values():
            item.fail(error)


def _remote_error(name: str, record: Record) -> RemoteError:
    """The exception that the child reports in the record."""
    try:
        if record.matrix is None or record.matrix.dtype != np.uint8:
            raise ValueError("not bytes")
        report = json.loads(record.matrix.tobytes())
        texts = [report[key] for key in ("exception_type", "message", "traceback")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("not texts")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"the failure report for {name!r} cannot be read: {error}") from None
    return RemoteError(name, *texts)
