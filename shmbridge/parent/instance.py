"""One Sprint child and its channel: what was sent to it and is not answered yet."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from bisect import bisect
from collections import deque
from typing import Optional

from .. import protocol
from .._native import lib
from ..channel import Channel
from ..doorbell import Doorbell
from ..errors import ProtocolError, ShmbridgeError, UsageError, anew
from ..memory import ERROR_SIGNALS_LINES, POSTERIORS_LINES, Geometry, Memory
from ..ring import Claim, Record
from . import forks
from .options import Options
from .pending import Pending
from .process import SprintProcess
from .received import check_features, look_closer
from .reserve import create_object
from .statistics import InstanceStatistics
from .watcher import Watcher

_log = logging.getLogger("shmbridge")

# Looked up once: these stand in what runs for each segment.
_ANSWERED, _FEATURES, _FLOAT32 = lib.SHMB_ANSWERED, lib.SHMB_FEATURES, lib.SHMB_FLOAT32


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
        answered: how many requests were answered.
        starts: how many children were started, one after the other.
        fruitless: how many of them, the last ones, have ended and had answered nothing.
        question: features whose scores Sprint awaits, or None.
        questions: how many this child has sent.
        scored: how many were answered with scores.
        orphans: what was sent to the child and not answered when it ended, oldest first. At the first of them
            it was at work.
        channel: to the child; there is none where no other could be started.
    """

    channel: Channel

    def __init__(self, options: Options, watcher: Watcher) -> None:
        self._options = options
        self._watcher = watcher
        self._pending: deque[tuple[int, Pending]] = deque()  # with their sequence numbers, oldest first
        self._next_sequence = 1
        self._timed = options.segment_timeout is not None
        self.orphans: list[Pending] = []
        self.answered = 0
        self.starts = 0
        self.fruitless = 0
        self.scored = 0
        self.start()

    def start(self) -> None:
        """Start the child. It is not waited for: see `ready`.

        Raises:
            OptionError: the executable cannot be executed.
            ResourceError: no memory, process or descriptor is left.
        """
        self._no_room: Optional[tuple[int, int]] = None  # for which answer, and how much was released then
        geometry = Geometry.for_ring_size(self._options.ring_size)
        self.question: Optional[Record] = None
        self.questions = 0
        if hasattr(self, "channel"):
            del self.channel  # and its memory, unless the user holds some: there may not be room for two
        with forks.held_off():
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
        self._since = time.monotonic()  # Sprint was started then, or began with the oldest that is pending
        self._answered_before = self.answered
        self.ready = False
        self.labels: Optional[int] = None
        self._awaits_requests = False
        self._on_its_way = False  # to its next question, for which it has segment_timeout
        self.death: Optional[ShmbridgeError] = None  # not before: what could not be started stays dead
        self.starts += 1

    def holds(self, pending: Pending) -> bool:
        """Whether it was sent to this child and is not answered."""
        return any(each is pending for _, each in self._pending)

    @property
    def in_flight(self) -> int:
        """How much was sent and is not answered."""
        return len(self._pending)

    @property
    def load(self) -> int:
        """The frames that were sent and are not answered: what the child still has to do."""
        return sum(pending.rows for _, pending in self._pending)

    def stats(self) -> InstanceStatistics:
        """How the child is now. May be called from any thread."""
        ring_size = Geometry.for_ring_size(self._options.ring_size).posteriors_size
        channel = getattr(self, "channel", None)  # once: another thread may start the child anew
        running = self.death is None and not self._process.exited
        return InstanceStatistics(
            pid=self._process.pid,
            state=("ready" if self.ready else "starting") if running else "ended",
            in_flight=self.in_flight,
            answered=self.answered,
            scored=self.scored,
            restarts=self.starts - 1,
            ring_size=ring_size,
            posteriors_used=channel.memory.used(POSTERIORS_LINES, ring_size) if channel else 0,
            error_signals_used=channel.memory.used(ERROR_SIGNALS_LINES, ring_size) if channel else 0,
        )

    def try_claim(self, kind: int, rows: int, columns: int, name: bytes) -> Optional[Claim]:
        """Claim a float32 record for the child; None where there is no room now.

        Raises:
            SegmentTooLargeError: it can never fit.
            BufferError: there is no room until the user sends, aborts or deletes what is held.
            ProtocolError: the child has written what it must not, and was ended for it.
        """
        try:
            claim = self.channel.sender.claim_record(kind, _FLOAT32, rows, columns, self._next_sequence, name)
        except BufferError:
            if not self._pending:
                raise
            return None  # it may be we who hold what was sent, in case that Sprint ends, until it is answered
        except ProtocolError as error:
            self._condemn(error)
            raise
        if claim is not None:
            self._next_sequence += 1
        return claim

    def send(self, claim: Claim, pending: Pending) -> None:
        """Send what was claimed; `pending` gets the answer."""
        if self._timed and not self._pending:
            self._since = time.monotonic()
        entry = (claim.sequence, pending)
        if not self._pending or self._pending[-1] < entry:
            self._pending.append(entry)
        else:  # claimed earlier than what was sent before: Sprint sees it, and answers it, first
            self._pending.insert(bisect(self._pending, entry), entry)
        try:
            claim.commit()
        except BaseException:  # such as Ctrl-C, which may come just before or just behind the commit itself
            with contextlib.suppress(UsageError):  # it is committed: the answer will come
                claim.abort()
                self._pending.remove(entry)
                pending.fail(UsageError(f"sending segment {pending.name!r} was interrupted"))
            raise

    def collect(self) -> bool:
        """Hand out the next answer, if it is there, and take other news. Returns whether there was any."""
        if self._process.has_news and self.death is None:
            return self._take_news()
        return self._take_answer()

    def look_for_death(self) -> Optional[ShmbridgeError]:
        """Why there is no child any more, as far as can be known now; else None."""
        if self._process.has_news and self.death is None:
            self._take_news()
        return self.death

    @property
    def deadline(self) -> Optional[float]:
        """When, of time.monotonic(), the child is late: with its hello, or with an answer. None: never."""
        if self.death is not None:
            return None
        if not self.ready:
            return self._since + self._options.start_timeout
        timeout = self._options.segment_timeout
        if timeout is None or not (self._pending or self._on_its_way):
            return None
        return self._since + timeout

    def end_if_late(self) -> bool:
        """End the child if it is past its deadline. Returns whether anything has come, or ended."""
        if self.collect():
            return True
        deadline = self.deadline
        if deadline is None or time.monotonic() < deadline:
            return False
        if self.ready:
            self._end(self._process.end_hanging(self._options.segment_timeout or 0, self._unanswered()))
        else:
            self._end(self._process.end_unready(self._options.start_timeout))
        return True

    def check_not_stuck(self, concerned: Optional[Pending] = None) -> bool:
        """Raise where no answer can come until the user does something; call it before waiting.

        Args:
            concerned: what alone is waited for; None: whatever was sent. What was sent to another child is no
                concern of this one.

        Returns:
            Whether something that is waited for lies here.

        Raises:
            UsageError: what was sent lies behind a claim that was not sent yet.
            BufferError: Sprint has told that it finds no room for its answer, and what is received is held.
        """
        if not self._pending:
            return False
        oldest, pending = self._pending[0]
        if concerned is not None and concerned is not pending and not self.holds(concerned):
            return False
        name = pending.name
        if self.question is not None:
            raise UsageError(
                f"segment {name!r} waits in vain: Sprint scores features, and awaits their scores; call "
                "serve_scores"
            )
        open_claim = self.channel.sender.oldest_open()
        if open_claim is not None and open_claim[0] < oldest:
            raise UsageError(
                f"segment {name!r} waits behind {_decode(open_claim[1])!r}, which was claimed earlier on the "
                "same child and is not sent yet: Sprint sees them in the order of their claims; send or "
                "abort that"
            )
        receiver = self.channel.receiver
        if self._no_room == (oldest, receiver.released) and receiver.used:
            raise BufferError(
                f"Sprint has no room to answer for {name!r}: {receiver.used} of {receiver.capacity} bytes of "
                "the ring lie behind the oldest result that is still held; release the results and their "
                "arrays, or raise the option ring_size"
            )
        return True

    def check_no_open_claim(self) -> None:
        """Raise UsageError where what is sent now would wait behind a claim that is not sent yet."""
        open_claim = self.channel.sender.oldest_open()
        if open_claim is not None:
            raise UsageError(
                f"segment {_decode(open_claim[1])!r} was claimed and is not sent yet: what is sent after it "
                "would wait behind it; send or abort it first"
            )

    def begin_serving(self) -> None:
        """From now on the child's questions are answered.

        Raises:
            UsageError: something is open that was claimed for it or sent to it.
        """
        if self._pending:
            raise UsageError(
                f"segment {self._pending[0][1].name!r} was sent to Sprint and is not answered yet: "
                "wait for its result before you call serve_scores"
            )
        self.check_no_open_claim()
        self._on_its_way = self.question is None
        self._since = time.monotonic()

    def end_serving(self) -> None:
        """The child's questions are kept for the next time."""
        self._on_its_way = False

    def check_serving(self) -> None:
        """Raise where no question can come until the user does something; call it before waiting.

        Raises:
            UsageError: Sprint waits for what it is asked.
            BufferError: Sprint has told that it finds no room for its features, and earlier ones are held.
        """
        if self.death is not None:
            return
        if self._awaits_requests:
            raise UsageError(
                "this Sprint awaits segments from the trainer, and so never asks for scores: it runs the "
                "control loop, or the segment order of use_python_segment_order=True; set that to False, "
                "and give Sprint an action that recognises or aligns (docs/ways.md)"
            )
        receiver = self.channel.receiver
        if self._no_room is not None and self._no_room[1] == receiver.released and receiver.used:
            raise BufferError(
                f"Sprint has no room for the next features: {receiver.used} of {receiver.capacity} bytes of "
                "the ring lie behind the oldest features that are still held; let go of them and their "
                "views, or raise the option ring_size"
            )

    def try_claim_answer(self, rows: int, columns: int, dtype: int) -> Optional[Claim]:
        """Claim a record for the answer to the child's question; None where there is no room now.

        Then the child, which has nothing else received, has padding to pass, and is late if it does not.

        Raises:
            SegmentTooLargeError, BufferError, ProtocolError: as try_claim.
        """
        if self.question is None:
            raise UsageError("Sprint awaits no scores")
        try:
            claim = self.channel.sender.claim(
                lib.SHMB_SCORES, rows, columns, sequence=self.question.sequence, dtype=dtype
            )
        except ProtocolError as error:
            self._condemn(error)
            raise
        if claim is None and not self._on_its_way:
            self._on_its_way = True
            self._since = time.monotonic()
        return claim

    def answer(self, claim: Claim, status: int = _ANSWERED) -> None:
        """Send the answer to the child's question."""
        question = self.question
        try:
            self.question = None
            claim.commit(status)
        except BaseException:  # such as Ctrl-C, which may come just before or just behind the commit itself
            with contextlib.suppress(UsageError):  # it is committed
                claim.abort()
                self.question = question
            raise
        self._on_its_way = True
        self._since = time.monotonic()
        if status == _ANSWERED:
            self.scored += 1

    def wait_for_end(self) -> None:
        """Wait for a child whose question got an error for an answer; kill it where it does not end of it."""
        if not self._process.wait(self._options.exit_timeout):
            self._process.kill()
            self._process.wait(threading.TIMEOUT_MAX)
        self.look_for_death()

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
        if hasattr(self, "channel"):
            self.channel.disown()

    # --- within

    def _take_news(self) -> bool:
        """What came by pipe, a death, and all answers that were there before it."""
        process = self._process
        process.has_news = False
        exited = process.exited  # before the last look at the ring: what it holds then is all
        progress = self._take_messages()
        while exited and self._take_answer():
            progress = True
        if exited and self.death is None:
            self._end(process.death(self._unanswered()))
            progress = True
        return progress

    def _take_answer(self) -> bool:
        """The next answer in the ring. Returns whether there was one."""
        try:
            record = self.channel.receiver.receive() if self.death is None else None
            if record is None:
                return False
            self._deliver(record)
        except ProtocolError as error:
            self._condemn(error)
        return True

    def _take_messages(self) -> bool:
        process = self._process
        if process.broken is not None:
            self._condemn(process.broken)
            return True
        news = False
        # An exception is for the death notice.
        for kind in ("hello", "dimension", "awaits_requests", "no_room"):
            message = process.messages.take(kind)
            if message is None:
                continue
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
            self._since = time.monotonic()
        elif message["kind"] == "dimension":
            if message["labels"] < 1:
                raise ProtocolError(f"Sprint says that it has {message['labels']} labels")
            self.labels = message["labels"]
        elif message["kind"] == "awaits_requests":
            self._awaits_requests = True
        else:
            self._no_room = (message["sequence"], message["released"])

    def _take_question(self, record: Record) -> None:
        """What Sprint sends without having been asked: features."""
        if record.kind != _FEATURES:
            raise ProtocolError(f"Sprint answered request {record.sequence} where nothing was asked")
        if self.question is not None:
            raise ProtocolError("Sprint sent features while it awaits the scores of others")
        if self._awaits_requests:
            raise ProtocolError(
                "Sprint asks for scores in the midst of the trainer's segments, which nobody can answer: "
                "leave its python-feature-scorer out of this configuration"
            )
        check_features(record)
        self.question = record
        self.questions += 1
        self._on_its_way = False

    def _deliver(self, record: Record) -> None:
        if not self._pending:
            self._take_question(record)
            return
        sequence, pending = self._pending[0]
        error = None
        if not record.is_answer(sequence, pending.answer_kind, pending.rows, pending.columns):
            if record.kind == _FEATURES:
                self._take_question(record)
                return
            error = look_closer(record, sequence, pending)
        self._pending.popleft()
        self.answered += 1
        if self._timed:
            self._since = time.monotonic()
        if error is not None:
            pending.fail(error)
            return
        pending.deliver(record)

    def _unanswered(self) -> list[str]:
        return [pending.name for _, pending in self._pending]

    def _condemn(self, error: ShmbridgeError) -> None:
        """The child does what it must not: whatever else it says, it is not believed."""
        self._process.kill()
        self._end(error)

    def _end(self, error: ShmbridgeError) -> None:
        self.death = anew(error)
        self.fruitless = 0 if self.answered > self._answered_before else self.fruitless + 1
        self.orphans += [pending for _, pending in self._pending]
        self._pending.clear()


def _decode(name: bytes) -> str:
    """For messages: it was read from shared memory, where the child may write."""
    return name.decode("utf-8", "replace")
