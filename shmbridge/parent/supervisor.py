"""Start, replace and close the children of a pool. The supervisor never waits for an answer."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Optional

from ..errors import ShmbridgeError, without_traceback
from ..memory import ERROR_SIGNALS_LINES, POSTERIORS_LINES, Geometry, require_shared_memory
from .answer_check import AnswerCheck
from .child import Child
from .child_state import ChildState
from .latch import Latch
from .options import Options
from .statistics import ChildStatistics
from .uninterrupted import uninterrupted
from .watcher import Watcher

_log = logging.getLogger("shmbridge")

NOTICE_SECONDS = 10.0
"""How often the waits are looked at, to log the long ones."""

_LONG_SECONDS = 30.0  # a segment is logged after this time, and each time that its age has doubled
_DEAD = ChildState.DEAD


class Slot:
    """The place of one child in the pool, through its replacements.

    Attributes:
        child: the last child.
        is_vacant: the child is dead, and the supervisor did not replace it.
        starts: how many children were started here.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.is_vacant = False
        self.starts = 1
        self._failures = 0
        self._answered = 0
        self._scored = 0

    @property
    def consecutive_failures(self) -> int:
        """The number of children in a row, this one included, that have answered nothing."""
        return 0 if self.child.answered else self._failures + 1

    def install(self, child: Child) -> None:
        """Replace the dead child with a new one."""
        dead, failures = self.child, self.consecutive_failures
        self.child, self.is_vacant = child, False
        self._failures = failures
        self._answered += dead.answered
        self._scored += dead.scored
        self.starts += 1

    def stats(self, ring_size: int) -> ChildStatistics:
        """Return the state of the child now. May be called from any thread."""
        child = self.child
        posteriors_used = error_signals_used = 0
        with contextlib.suppress(ShmbridgeError):  # a dead child has no channel
            memory = child.channel.memory
            posteriors_used = memory.used(POSTERIORS_LINES, ring_size)
            error_signals_used = memory.used(ERROR_SIGNALS_LINES, ring_size)
        return ChildStatistics(
            pid=child.pid,
            state=(_DEAD if child.has_exited else child.state).value,
            in_flight=len(child.in_flight),
            answered=self._answered + child.answered,
            scored=self._scored + child.scored,
            restarts=self.starts - 1,
            ring_size=ring_size,
            posteriors_used=posteriors_used,
            error_signals_used=error_signals_used,
        )


class Supervisor:
    """The slots of a pool, and when a dead child is replaced.

    Not thread-safe, apart from `stats`: the pool serialises.

    Args:
        options: the pool's.
        watcher: the pool's.
        answer_check: the pool's.

    Attributes:
        slots: one for each child that the user asked for.
        children: the children that live, and those whose death the scheduler has not processed yet.
    """

    def __init__(self, options: Options, watcher: Watcher, answer_check: AnswerCheck) -> None:
        self._options = options
        self._answer_check = answer_check
        self._watcher = watcher
        self._ring_size = Geometry.for_ring_size(options.ring_size).posteriors_size
        self._last_notice = 0.0
        self.slots: list[Slot] = []
        self.children: list[Child] = []

    def start_all(self) -> None:
        """Start the first child of each slot.

        Raises:
            OptionError: as Child.
            ResourceError: as Child, or the memory of all children does not fit.
        """
        size = Geometry.for_ring_size(self._options.ring_size).total_size
        uninterrupted(lambda: require_shared_memory(size, self._options.num_instances))
        for _ in range(self._options.num_instances):
            uninterrupted(self._start_first)

    def _start_first(self) -> None:
        self.slots.append(Slot(Child(self._options, self._watcher, self._answer_check)))
        self._refresh()

    def replace(self, dead: Child, *, may_start: bool) -> None:
        """Start another child in the place of a dead one if that can help; otherwise leave the slot vacant.

        A child that died before its hello is not replaced, nor an idle one after more than max_restarts
        deaths in a row without an answer.

        Args:
            dead: the child.
            may_start: False while the pool closes.
        """
        slot = self._slot_of(dead)
        if slot is None:  # Ctrl-C came between the start of its replacement and the end of this method
            self._refresh()
            return
        limit = self._options.max_restarts
        can_help = dead.hello is not None and (dead.died_working or slot.consecutive_failures <= limit)
        if limit > 0 and may_start and can_help:
            _log.warning("%s\nAnother child is started in its place. [peer-gone]", dead.error)
            try:
                self._start(slot)
                return
            except ShmbridgeError as error:
                _log.error("cannot replace the child that ended: %s [peer-gone]", error)
        slot.is_vacant = True
        self._refresh()
        dead.close()

    def fill_vacancies(self) -> list[Slot]:
        """Start a child in each vacant slot. Return the slots that were filled.

        Raises:
            OptionError, ResourceError: as Child. With max_restarts, only if no child is alive: the others can
                serve the requests.
        """
        started = []
        for slot in self.slots:
            if slot.is_vacant:
                try:
                    self._start(slot)
                    started.append(slot)
                except ShmbridgeError as error:
                    if self._options.max_restarts == 0 or not self.children:
                        raise
                    _log.error("cannot replace the child that ended: %s [peer-gone]", error)
        return started

    def log_long_waits(self) -> None:
        """Log every 10 s which children are starting, and which have had one segment for 30 s, 60 s, …."""
        now = time.monotonic()
        elapsed = now - self._last_notice
        if elapsed < 0.9 * NOTICE_SECONDS:
            return
        self._last_notice = now
        for child in self.children:
            seconds = now - child.clock.since
            if child.state is _DEAD or seconds < 0.9 * NOTICE_SECONDS:
                continue
            if child.hello is None:
                _log.info("Sprint (pid %d) has been starting for %.0f s", child.pid, seconds)
            elif child.in_flight and _doublings(seconds) > _doublings(seconds - elapsed):
                name = child.in_flight[0][1].name
                _log.warning(
                    "Sprint (pid %d) has worked on segment %r for %.0f s [slow-segment]",
                    child.pid,
                    name,
                    seconds,
                )

    def first_error(self) -> ShmbridgeError:
        """Return why there is no child alive."""
        errors = [slot.child.error for slot in self.slots if slot.child.error is not None]
        return without_traceback(errors[0])

    def stats(self) -> tuple[ChildStatistics, ...]:
        """Return the state of each child now. May be called from any thread."""
        return tuple(slot.stats(self._ring_size) for slot in list(self.slots))

    def close(self) -> None:
        """End all children, and free their memory."""
        for slot in self.slots:
            slot.child.request_exit()
        for slot in self.slots:
            slot.child.close()

    def kill_all(self) -> None:
        """Kill all children, also those after one at which an exception comes."""
        with contextlib.ExitStack() as stack:
            for slot in list(self.slots):
                stack.callback(slot.child.kill)

    def disown(self) -> None:
        """Leave all rings to the parent: called in a fork of the trainer."""
        for slot in self.slots:
            slot.child.disown()

    def _slot_of(self, child: Child) -> Optional[Slot]:
        return next((slot for slot in self.slots if slot.child is child), None)

    def _start(self, slot: Slot) -> None:
        slot.child.close()  # first: there may not be room for the memory of both
        uninterrupted(lambda: self._start_next(slot))

    def _start_next(self, slot: Slot) -> None:
        slot.install(Child(self._options, self._watcher, self._answer_check))
        self._refresh()
        self._refresh()

    def _refresh(self) -> None:
        self.children[:] = [slot.child for slot in self.slots if not slot.is_vacant]


def _doublings(seconds: float) -> int:
    return int(max(seconds, 0.0) / _LONG_SECONDS).bit_length()


_starts: set[tuple[Callable[[], None], Latch]] = set()


@contextlib.contextmanager
def stop_at_exit(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` if the interpreter ends before the block does, and delay its end until the block ends.

    A pool that another thread is starting has no owner yet who would close it. Its watcher would run into the
    interpreter's end, which aborts if it finds a thread within standard output or error.
    """
    start = (stop, Latch())
    _starts.add(start)
    try:
        yield
    finally:
        _starts.discard(start)
        start[1].open()


def _stop_all() -> None:
    for stop, ended in list(_starts):
        stop()
        ended.wait()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_starts.clear)  # a fork does not copy the threads that start them
