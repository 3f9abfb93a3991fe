"""A simulated Sprint: it receives requests and answers them, or dies, hangs, fails and breaks the protocol.

Its rings are real, in memory that this process maps once. Its pipes, its computing and its end are events of
the world.
"""

from __future__ import annotations

import dataclasses
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from shmbridge import protocol
from shmbridge._native import ffi, lib
from shmbridge.doorbell import Doorbell
from shmbridge.memory import (
    ERROR_SIGNALS_LINES,
    PAGE,
    POSTERIORS_LINES,
    Geometry,
    Memory,
    create_shared_memory,
)
from shmbridge.ring import Claim, Consumer, Producer, Record

from .world import ViolationError, World

GEOMETRY = Geometry.for_ring_size(1 << 16)
LABELS = 4
_STATES = 3  # of each automaton

# Positions in the page of both rings, in words: the tail of the requests, and the head of the answers.
_REQUESTS_TAIL = 0
_ANSWERS_HEAD = 3 * lib.SHMB_HEAD_OFFSET // 8

_HELLO = {"kind": "hello", "protocol": protocol.PROTOCOL_VERSION, "abi": lib.SHMB_ABI}
_REPORT = np.frombuffer(protocol.encode_report(RuntimeError("as the plan says")), np.uint8)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How likely each fault is: of each start, of each request, or of each step of a Sprint.

    Attributes:
        start_fails: no memory or process is left for it.
        dies_unready: it ends before its hello.
        hangs_unready: it never sends its hello.
        dies: it ends at a step.
        hangs: it never answers a request.
        fails: its Python raises at a request.
        skips: it gives no loss for a segment.
        lies: it answers with something else.
        ignores_exit: it does not end when it is asked to.
    """

    start_fails: float = 0.0
    dies_unready: float = 0.0
    hangs_unready: float = 0.0
    dies: float = 0.0
    hangs: float = 0.0
    fails: float = 0.0
    skips: float = 0.0
    lies: float = 0.0
    ignores_exit: float = 0.0


class Ledger:
    """What the Sprints did with each segment, by its number.

    Attributes:
        answered: the segments whose answer was committed.
        failed, skipped: those among them with a failure report, or without a loss.
        deaths: how many Sprints have ended while they worked on a segment.
        frames: the frames of each segment of a batch, in which the longest must go first.

    Args:
        num_instances: of the pool. A single Sprint receives what another one has lost in the old order. With
            several, a request may have gone to one that has ended already, and so come late.
    """

    def __init__(self, num_instances: int) -> None:
        self._is_alone = num_instances == 1
        self._has_lost = False
        self.answered: set[int] = set()
        self.failed: set[int] = set()
        self.skipped: set[int] = set()
        self.deaths: Counter[int] = Counter()
        self.frames: dict[int, tuple[int, int]] = {}
        self._with: dict[int, Sprint] = {}
        self._lost: dict[int, tuple[int, int]] = {}  # the Sprint that ended, and the place in its ring

    def received(self, segment: int, sprint: Sprint) -> None:
        """Check that a segment is computed again only if it must be, and in order."""
        if segment in self.answered:
            raise ViolationError(f"segment {segment} is computed again; it was answered")
        other = self._with.get(segment)
        if other is not None and other.alive:
            raise ViolationError(f"segment {segment} is computed by two Sprints at once")
        self._with[segment] = sprint
        for groups in (self._lost, self.frames) if self._is_alone or not self._has_lost else ():
            group, place = groups.get(segment, (0, 0))
            if group and place < sprint.places.get(group, place):
                raise ViolationError(f"segment {segment} comes too late, after others of its group")
            if group:
                sprint.places[group] = place

    def lost(self, segments: Sequence[int], pid: int, *, has_begun: bool) -> None:
        """Record what a Sprint has not answered when it ends; it has begun with the first, or not."""
        self._has_lost = True
        if has_begun:
            self.deaths[segments[0]] += 1
        for place, segment in enumerate(segments):
            self.frames.pop(segment, None)  # a retry comes before the rest of the batch
            self._lost[segment] = (pid, place)


class SharedMemories:
    """The memory of the simulated Sprints, which all worlds of this process reuse."""

    def __init__(self) -> None:
        self._free: list[Memory] = []

    def take(self) -> Memory:
        """Return memory whose rings are empty."""
        if not self._free:
            self._free.append(Memory(create_shared_memory(GEOMETRY.total_size), GEOMETRY.total_size))
        memory = self._free.pop()
        ffi.memmove(lib.shmb_memory_at(memory.pointer, 0, 2 * PAGE), bytes(2 * PAGE), 2 * PAGE)
        return memory

    def give_back(self, memory: Memory) -> None:
        """Reuse the memory in the next world."""
        self._free.append(memory)


MEMORIES = SharedMemories()


class Sprint:
    """One simulated process.

    Attributes:
        pid: of the process.
        alive: whether it runs.
        returncode: its exit code, or the negative number of its signal; None while it runs.
        hangs: it does nothing any more.
        lied: it broke the protocol.
        busy_since: since when it works on a request; None if it waits for one.
        was_ready: the trainer's watcher has read its hello.
        on_message, on_exit: called when the trainer's watcher has read a message, or noticed the exit.
        messages: those that it has written and that the watcher has not read.
    """

    def __init__(self, world: World, plan: Callable[[], Plan], ledger: Ledger, parent_bell: Doorbell) -> None:
        self._world = world
        self._plan = plan
        self._ledger = ledger
        self.pid = 1000 + len(world.sprints)
        world.sprints.append(self)
        self.started = world.now
        self.alive = True
        self.returncode: Optional[int] = None
        self.hangs = False
        self.lied = False
        self.busy_since: Optional[float] = None
        self.was_ready = False
        self.on_message: Callable[[dict[str, Any]], None]
        self.on_exit: Callable[[], None]
        self.messages: deque[dict[str, Any]] = deque()
        self.places: dict[int, int] = {}  # the latest of each group of segments: see Ledger
        self.memory = MEMORIES.take()
        self.bell = Doorbell(self.memory, create=True)
        records = GEOMETRY.posteriors_size
        self._receiver: Any = Consumer(
            self.memory, POSTERIORS_LINES, GEOMETRY.posteriors_offset, records, parent_bell
        )
        self._sender: Any = Producer(
            self.memory, ERROR_SIGNALS_LINES, GEOMETRY.error_signals_offset, records, parent_bell
        )
        lines = lib.shmb_memory_at(self.memory.pointer, PAGE, PAGE)
        self._positions = memoryview(ffi.buffer(lines, PAGE)).cast("Q")
        self._sleeps_at = 0  # the index of the position at which it sleeps
        self._seen = 0  # that position when it fell asleep
        self._wake: Callable[[], None] = self._look
        self._record: Optional[Record] = None
        self._segment = -1
        self._claim: Optional[Claim] = None

    def start(self) -> None:
        """Begin to run."""
        start = self._world.costs.start
        if self._decide("dies_unready"):
            self._world.after(start, lambda: self.end(1))
        elif self._decide("hangs_unready"):
            self.hangs = True
        else:
            self._world.after(start, self._begin)

    # --- what others do with it

    def has_news(self) -> bool:
        """Return whether it must wake."""
        return self._positions[self._sleeps_at] != self._seen

    def wake(self) -> None:
        """Go on after a sleep."""
        if self.alive:
            self._wake()

    def end(self, returncode: int) -> None:
        """End the process."""
        if not self.alive:
            return
        self._world.note("Sprint {} ends: {}", self.pid, returncode)
        self.alive = False
        self.returncode = returncode
        if self in self._world.idle:
            self._world.idle.remove(self)
        self._record_loss()
        # A real process leaves its claims and records as they are.
        self._receiver.disown()
        self._sender.disown()
        self._receiver = self._sender = self._record = self._claim = None
        self._world.after(self._world.costs.exit_notice, self._notice_exit)

    def _record_loss(self) -> None:
        has_begun = self._record is not None and self._segment not in self._ledger.answered
        segments = [self._segment] if has_begun else []
        record = self._receiver.receive()
        while record is not None:
            segments.append(int(record.name[1:]))
            record = self._receiver.receive()
        self._ledger.lost(segments, self.pid, has_begun=has_begun)

    def request_exit(self) -> None:
        """Receive the control message exit."""
        if self.alive and not self.hangs and not self._decide("ignores_exit"):
            self._world.after(self._world.costs.exit, lambda: self.end(0))

    def send_signal(self, number: int) -> None:
        """Receive a signal that ends it."""
        if self.alive:
            self._world.after(self._world.costs.exit, lambda: self.end(-number))

    def is_late(self, start_timeout: float, segment_timeout: Optional[float]) -> bool:
        """Return whether the trainer may end it for being late."""
        world = self._world
        if not self.was_ready and world.now - self.started >= start_timeout:
            return True
        if segment_timeout is None or self.busy_since is None:
            return False
        return world.now - self.busy_since + 100 * world.costs.wake >= segment_timeout

    # --- what it does, in steps

    def _decide(self, fault: str) -> bool:
        return self._world.chance(getattr(self._plan(), fault))

    def _step(self, typical: float, action: Callable[[], None]) -> None:
        """Go on after some time, unless it dies before."""
        if self._decide("dies"):
            code = self._world.random.choice((0, 1, -signal.SIGSEGV, -signal.SIGKILL))
            self._world.after(typical, lambda: self.end(code))
        else:
            self._world.after(typical, lambda: self.alive and action())

    def _send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._world.after(self._world.costs.message, self._deliver_message)

    def _deliver_message(self) -> None:
        if self.messages:
            self.on_message(self.messages.popleft())

    def _notice_exit(self) -> None:
        while self.messages:
            self.on_message(self.messages.popleft())
        self.on_exit()

    def _begin(self) -> None:
        if self.alive:
            self._send({**_HELLO, "pid": self.pid})
            self._step(self._world.costs.wake, self._await_requests)

    def _await_requests(self) -> None:
        self._send({"kind": "ready_for_requests"})
        self._look()

    def _sleep(self, position: int, then: Callable[[], None]) -> None:
        self._sleeps_at = position
        self._seen = self._positions[position]
        self._wake = then
        self._world.idle.append(self)

    def _look(self) -> None:
        """Receive the next request."""
        record = self._receiver.receive()
        if record is None:
            self.busy_since = None
            self._sleep(_REQUESTS_TAIL, self._look)
            return
        if self.busy_since is None:
            self.busy_since = self._world.now
        self._record = record
        self._segment = int(record.name[1:])
        self._world.note("Sprint {} receives {}", self.pid, self._segment)
        self._ledger.received(self._segment, self)
        if record.kind == lib.SHMB_POSTERIORS:
            stamp = record.matrix
            if stamp.item(0) != self._segment or stamp.item(-1) != self._segment:
                raise ViolationError(f"segment {self._segment} comes with the posteriors of {stamp.item(0)}")
        if self._decide("hangs"):
            self._world.note("Sprint {} hangs", self.pid)
            self.hangs = True
            return
        answer = self._answer
        if self._decide("lies"):
            answer = self._lie
        elif self._decide("fails"):
            answer = self._fail
        elif record.kind == lib.SHMB_AUTOMATON_REQUEST:
            answer = self._answer_automaton
        elif self._decide("skips"):
            answer = self._skip
        self._step(self._world.costs.frame * record.rows, answer)

    def _claim_answer(self, kind: int, rows: int, columns: int, dtype: int, then: Callable[[], None]) -> Any:
        """Return a claim; if there is no room, sleep, call `then` later, and return None."""
        claim = self._sender.claim_record(kind, dtype, rows, columns, self._record.sequence, b"")
        if claim is None:
            released = self._sender.released
            self._world.note("Sprint {} has no room for {}", self.pid, self._segment)
            self._send({"kind": "no_room", "sequence": self._record.sequence, "released": released})
            self.busy_since = None  # the trainer's turn
            self._sleep(_ANSWERS_HEAD, then)
        elif self.busy_since is None:
            self.busy_since = self._world.now
        return claim

    def _answer(self) -> None:
        record = self._record
        claim = self._claim_answer(
            lib.SHMB_ERROR_SIGNAL, record.rows, record.columns, lib.SHMB_FLOAT32, self._answer
        )
        if claim is not None:
            matrix = claim.matrix
            matrix[0, 0] = matrix[-1, -1] = self._segment
            del matrix
            self._claim = claim
            self._step(self._world.costs.wake, self._commit)

    def _commit(self) -> None:
        claim, self._claim = self._claim, None
        self._finish(claim, lib.SHMB_ANSWERED, -float(self._segment))

    def _answer_automaton(self) -> None:
        claim = self._claim_answer(lib.SHMB_AUTOMATON, 4, 1, lib.SHMB_UINT32, self._answer_automaton)
        if claim is not None:
            claim.matrix[:, 0] = (0, 1, self._segment, 0)
            self._finish(claim, lib.SHMB_ANSWERED, 0.0, _STATES)

    def _skip(self) -> None:
        claim = self._claim_answer(lib.SHMB_ERROR_SIGNAL, 0, 0, lib.SHMB_FLOAT32, self._skip)
        if claim is not None:
            self._ledger.skipped.add(self._segment)
            self._finish(claim, lib.SHMB_SKIPPED)

    def _fail(self) -> None:
        kind = lib.SHMB_ERROR_SIGNAL if self._record.kind == lib.SHMB_POSTERIORS else lib.SHMB_AUTOMATON
        claim = self._claim_answer(kind, 1, len(_REPORT), lib.SHMB_UINT8, self._fail)
        if claim is not None:
            claim.matrix[0] = _REPORT
            self._ledger.failed.add(self._segment)
            self._finish(claim, lib.SHMB_FAILED)

    def _lie(self) -> None:
        """Answer with a matrix of a shape that no request has."""
        claim = self._claim_answer(lib.SHMB_ERROR_SIGNAL, 1, LABELS + 1, lib.SHMB_FLOAT32, self._lie)
        if claim is not None:
            self._world.note("Sprint {} lies", self.pid)
            self.lied = True
            claim.commit()

    def _finish(self, claim: Claim, status: int, loss: float = 0.0, states: int = 0) -> None:
        """Commit an answer, release the request, and look for the next one."""
        self._world.note("Sprint {} answers {}", self.pid, self._segment)
        self._ledger.answered.add(self._segment)
        claim.commit(status, loss, states)
        self.busy_since = self._world.now
        self._step(self._world.costs.wake, self._release)

    def _release(self) -> None:
        self._record = None
        self._look()
