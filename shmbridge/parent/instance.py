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
from ..errors import ProtocolError, ShmbridgeError, UsageError, without_traceback
from ..memory import ERROR_SIGNALS_LINES, POSTERIORS_LINES, Geometry, Memory
from ..ring import Claim, Record
from . import forks
from .options import Options
from .pending import Pending
from .process import SprintProcess
from .questions import Questions
from .received import look_closer
from .reserve import create_object
from .statistics import ChildStatistics
from .watcher import Watcher

_log = logging.getLogger("shmbridge")

# Looked up once: these stand in what runs for each segment.
_FEATURES, _FLOAT32 = lib.SHMB_FEATURES, lib.SHMB_FLOAT32


class Instance:
    """Starts a child, sends to it, and hands its answers to those who wait for them.

    Not thread-safe: the pool serialises.

    Args:
        options: the user's.
        watcher: the pool's.

    Attributes:
        ready: the child has said hello.
        labels: the label dimension that Sprint has told, or None.
        no_room: for which answer, or question, Sprint has told that it finds no room, and up to where the
            ring had been released then; or None.
        death: why there is no child (any more), or None.
        answered: how many requests were answered.
        starts: how many children were started, one after the other.
        fruitless: how many of them, the last ones, have ended and had answered nothing.
        questions: what this child asks.
        scored: how many questions were answered with scores; who answers them counts.
        pending: what was sent and is not answered, with its sequence numbers, oldest first.
        orphans: what was sent to the child and not answered when it ended, oldest first. At the first of them
            it was at work.
        channel: to the child; there is none where no other could be started.
    """

    channel: Channel

    def __init__(self, options: Options, watcher: Watcher) -> None:
        self._options = options
        self._watcher = watcher
        self.pending: deque[tuple[int, Pending]] = deque()
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
        self.no_room: Optional[tuple[int, int]] = None
        geometry = Geometry.for_ring_size(self._options.ring_size)
        self.questions = Questions()  # and what was asked before is let go of
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
        self.death: Optional[ShmbridgeError] = None  # not before: what could not be started stays dead
        self.starts += 1

    def holds(self, pending: Pending) -> bool:
        """Whether it was sent to this child and is not answered."""
        return any(each is pending for _, each in self.pending)

    @property
    def in_flight(self) -> int:
        """How much was sent and is not answered."""
        return len(self.pending)

    @property
    def load(self) -> int:
        """The frames that were sent and are not answered: what the child still has to do."""
        return sum(pending.rows for _, pending in self.pending)

    def stats(self) -> ChildStatistics:
        """How the child is now. May be called from any thread."""
        ring_size = Geometry.for_ring_size(self._options.ring_size).posteriors_size
        channel = getattr(self, "channel", None)  # once: another thread may start the child anew
        running = self.death is None and not self._process.exited
        return ChildStatistics(
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
            if not self.pending:
                raise
            return None  # it may be we who hold what was sent, in case that Sprint ends, until it is answered
        except ProtocolError as error:
            self.condemn(error)
            raise
        if claim is not None:
            self._next_sequence += 1
        return claim

    def send(self, claim: Claim, pending: Pending) -> None:
        """Send what was claimed; `pending` gets the answer."""
        if self._timed and not self.pending:
            self._since = time.monotonic()
        entry = (claim.sequence, pending)
        if not self.pending or self.pending[-1] < entry:
            self.pending.append(entry)
        else:  # claimed earlier than what was sent before: Sprint sees it, and answers it, first
            self.pending.insert(bisect(self.pending, entry), entry)
        try:
            claim.commit()
        except BaseException:  # such as Ctrl-C, which may come just before or just behind the commit itself
            with contextlib.suppress(UsageError):  # it is committed: the answer will come
                claim.abort()
                self.pending.remove(entry)
                pending.fail(UsageError(f"sending segment {pending.name!r} was interrupted [claim-state]"))
            raise

    def collect(self) -> bool:
        """Hand out the next answer, if it is there, and take other news. Returns whether there was any.

        Orphans are news until somebody has taken them.
        """
        if self.death is not None:
            return bool(self.orphans)
        if self._process.has_news:
            return self._take_news()
        return self._take_answer()

    def look_for_death(self) -> Optional[ShmbridgeError]:
        """Why there is no child any more, as far as can be known now; else None."""
        if self._process.has_news and self.death is None:
            self._take_news()
        return self.death

    @property
    def deadline(self) -> Optional[float]:
        """When, of time.monotonic(), the child is late with hello, answer or question. None: never."""
        if self.death is not None:
            return None
        if not self.ready:
            return self._since + self._options.start_timeout
        timeout = self._options.segment_timeout
        if timeout is None:
            return None
        since = self._since if self.pending else self.questions.awaited_since
        return None if since is None else since + timeout

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

    def condemn(self, error: ShmbridgeError) -> None:
        """The child does what it must not: end it at once. Whatever else it says, it is not believed."""
        self._process.kill()
        self._end(error)

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
            self.condemn(error)
        return True

    def _take_messages(self) -> bool:
        process = self._process
        if process.broken is not None:
            self.condemn(process.broken)
            return True
        news = False
        # An exception is for the death notice.
        for kind in ("hello", "dimension", "ready_for_requests", "no_room"):
            message = process.messages.take(kind)
            if message is None:
                continue
            news = True
            try:
                self._take_message(message)
            except ProtocolError as error:
                self.condemn(error)
        return news

    def _take_message(self, message: protocol.Message) -> None:
        if message["kind"] == "hello":
            protocol.check_versions(message)
            self.ready = True
            self._since = time.monotonic()
            _log.info(
                "Sprint (pid %s) is there: Python %s, numpy %s, callback version %s",
                *(message.get(key) for key in ("pid", "python", "numpy", "sprint_version")),
            )
        elif message["kind"] == "dimension":
            if message["num_labels"] < 1:
                raise ProtocolError(f"Sprint says that it has {message['num_labels']} labels [bad-message]")
            self.labels = message["num_labels"]
        elif message["kind"] == "ready_for_requests":
            self.questions.ready_for_requests = True
        else:
            self.no_room = (message["sequence"], message["released"])

    def _deliver(self, record: Record) -> None:
        if not self.pending:
            if record.kind != _FEATURES:
                raise ProtocolError(
                    f"Sprint answered request {record.sequence} where nothing was asked [bad-answer]"
                )
            self.questions.take(record)
            return
        sequence, pending = self.pending[0]
        error = None
        if not record.is_answer(sequence, pending.answer_kind, pending.rows, pending.columns):
            if record.kind == _FEATURES:
                self.questions.take(record)
                return
            error = look_closer(record, sequence, pending)
        self.pending.popleft()
        self.answered += 1
        if self._timed:
            self._since = time.monotonic()
        if error is not None:
            pending.fail(error)
            return
        pending.deliver(record)

    def _unanswered(self) -> list[str]:
        return [pending.name for _, pending in self.pending]

    def _end(self, error: ShmbridgeError) -> None:
        self.death = without_traceback(error)
        self.fruitless = 0 if self.answered > self._answered_before else self.fruitless + 1
        self.orphans += [pending for _, pending in self.pending]
        self.pending.clear()
