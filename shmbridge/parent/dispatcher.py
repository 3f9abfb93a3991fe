"""Hands jobs to children and answers to jobs: the one place where the trainer's process waits."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Optional

from ..doorbell import WaitList
from ..errors import (
    BridgeTimeoutError,
    ClosedError,
    ProtocolError,
    ShmbridgeError,
    UsageError,
    without_traceback,
)
from ..ring import RingEnd
from . import forks, live
from .batch import Batch, Job
from .exits import stopped_at_exit
from .instance import Instance
from .options import Options
from .pending import Pending
from .statistics import Counters, PoolStatistics
from .stuck import check_can_come, check_no_open_claim, check_none_stuck, check_not_all_stuck
from .watcher import Watcher

_log = logging.getLogger("shmbridge")

# One segment that Sprint computes, and the next already in its ring: more would only tie segments to a
# child before it is known which one is free first.
_IN_FLIGHT = 2


class Dispatcher:
    """The children of a pool, and the loop that keeps each of them busy.

    Not thread-safe by itself: hold `lock` from the first call to the last of what belongs together.

    Args:
        options: the user's.

    Raises:
        OptionError, ResourceError: as Instance.start.
        PeerGoneError, ProtocolError, BridgeTimeoutError: a child did not become ready.

    Attributes:
        lock: held by the call that works.
        statistics: the running counts; `stats` has all.
        instances: the children.
        max_restarts: the user's option.
        foreign: in a fork of the process that created this: the pid of that process; else None.
        closed: whether `stop` or `close` was called.
        serving: what Sprint asks is being answered, see `scoring.serve`; nothing can be asked of it.
        waited_for: what the user waits for in place, or None.
        early: claims whose results have come while another was waited for, or none.
    """

    def __init__(self, options: Options) -> None:
        self.lock = threading.RLock()
        self.statistics = Counters()
        self._created = time.monotonic()
        self._ended: Optional[float] = None
        self._waited_for_start = 0.0  # seconds, which are no waiting for answers
        self.instances: list[Instance] = []
        self.foreign: Optional[int] = None
        self.closed = False
        self.serving = False
        self.waited_for: Optional[Pending] = None
        self.early: weakref.WeakSet[Pending] = weakref.WeakSet()
        self.max_restarts = options.max_restarts
        self._skip_fatal = options.skip_fatal_segments
        self._torn_down = False
        self._started = False  # all children were ready once
        self._to_send: deque[Pending] = deque()
        self._waited_for: list[RingEnd] = []
        self._wait_list = WaitList([])
        self._watcher = Watcher()
        forks.let_go_in_forks(self)
        with stopped_at_exit(self.stop):
            self._start(options)

    def _start(self, options: Options) -> None:
        try:
            executable = " ".join(options.command()[: 1 + options.leading_arguments])
            live.offer(self._watcher, executable, self.stats)
            for _ in range(options.num_instances):
                self.instances.append(Instance(options, self._watcher))
            self._wait_until_ready()
            self.check_usable()  # the interpreter may have come to its end just now
            self._started = True
        except BaseException:
            self._kill()
            self.close()
            raise

    def check_usable(self) -> None:
        """Raise UsageError in a fork, ClosedError after close."""
        if self.closed or self.foreign is not None:
            self._check_own()
            raise ClosedError("the pool was closed [closed]")

    def _check_own(self) -> None:
        if self.foreign is not None:
            raise UsageError(
                f"this pool belongs to process {self.foreign}, of which this one is a fork: "
                "create a pool of its own in each process [forked]"
            )

    def stats(self) -> PoolStatistics:
        """What has crossed the bridge so far. Without the lock: it may be called from any thread.

        Raises:
            UsageError: in a fork.
        """
        self._check_own()
        children = tuple(instance.stats() for instance in list(self.instances))
        return PoolStatistics(
            seconds=(self._ended or time.monotonic()) - self._created,
            wait_seconds=self._watcher.doorbell.waited - self._waited_for_start,
            restarts=sum(instance.restarts for instance in children),
            children=children,
            **dataclasses.asdict(self.statistics),
        )

    def stop(self) -> None:
        """Have the call end that is under way in another thread. Without the lock, which that call holds."""
        if not self.closed and self.foreign is None:
            self.closed = True
            self._watcher.doorbell.poke()

    def close(self) -> None:
        """End the children and the watcher. May be called again; does nothing in a fork."""
        if self._torn_down or self.foreign is not None:
            return
        self.closed = self._torn_down = True
        try:
            for instance in self.instances:
                instance.ask_to_exit()
            for instance in self.instances:
                instance.close()
        except BaseException:  # such as another Ctrl-C: nobody comes here again
            self._kill()
            raise
        finally:
            self._watcher.close()
        self._ended = time.monotonic()
        if self._started:
            _log.info("pool closed: %s", self.stats())

    def _kill(self) -> None:
        """End all children at once, also those behind the one at which yet another Ctrl-C comes."""
        with contextlib.ExitStack() as stack:
            for instance in self.instances:
                stack.callback(instance.kill)

    def leave_to_parent(self, parent_pid: int) -> None:
        """After a fork, in the child of the fork: let go of everything without touching it."""
        self.lock = threading.RLock()  # the old one may be held by a thread that the fork did not take along
        if not self._torn_down:  # else it is closed here as well; the fork may have come in the midst of that
            self.foreign = parent_pid
        for instance in self.instances:
            instance.leave_to_parent()

    def run(self, batch: Batch, jobs: Sequence[Job]) -> None:
        """Hand the jobs out in their order, and collect the answers, until all are answered or failed.

        Children that have died before are started anew.

        Raises:
            UsageError: a claim is open, behind which everything would wait.
            BufferError: what the user holds leaves no room.
            ClosedError: the pool was closed meanwhile.
        """
        self.start_dead_anew()
        for instance in self.instances:
            check_no_open_claim(instance)
        try:
            self._to_send.extend(jobs)
            while True:
                progress = self.collect()
                full = self._hand_out()
                if batch.open_jobs == 0:
                    return
                if not progress and self.may_wait(check_none_stuck, self.instances):
                    self.wait(full)
        except BaseException:
            batch.abandoned = True
            mine = {id(job) for job in jobs}
            self._to_send = deque(pending for pending in self._to_send if id(pending) not in mine)
            raise

    def wait_for(self, pending: Pending, timeout: Optional[float]) -> None:
        """Collect answers until this one is there.

        Raises:
            BridgeTimeoutError: it is not, after so many seconds.
            UsageError, BufferError: it never will be: see stuck.check_can_come.
            ClosedError: the pool was closed meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.waited_for = pending
        try:
            while not pending.done:
                if self.collect():
                    continue
                full = self._hand_out() if self._to_send else []
                if pending.done:  # it could not be sent
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds [timeout]")
                if self.may_wait(check_can_come, self.instances, pending, self._to_send):
                    self.wait(full, deadline)
        finally:
            self.waited_for = None

    def send_again(self, pending: Pending) -> None:
        """Send it as soon as a child has room: what was claimed for a child that has ended."""
        self._to_send.append(pending)

    def send_rest(self) -> None:
        """Wait until all has been sent that is to be sent again. Call it before anything new is claimed.

        Else that would come to lie before what the user sent earlier, which may then find no room for its
        answer, or wait for a claim that is not sent yet. Call it again after a wait: Sprint may have ended.

        Raises:
            UsageError, BufferError: no child will ever have room: see stuck.check_not_stuck.
            ClosedError: the pool was closed meanwhile.
        """
        while self._to_send:
            if self.collect():
                continue
            full = self._hand_out()
            if self._to_send and self.may_wait(check_not_all_stuck, self.instances):
                self.wait(full)

    def least_loaded(self) -> Instance:
        """The child with the least to do; what is claimed and not sent counts as well.

        Raises:
            PeerGoneError, ProtocolError, BridgeTimeoutError: no child is alive.
        """
        if len(self.instances) == 1 and self.instances[0].death is None:
            return self.instances[0]
        alive = [instance for instance in self.instances if instance.death is None]
        if not alive:
            raise without_traceback(self._first_death())
        return min(alive, key=lambda i: (i.load, i.channel.sender.used))

    def collect(self) -> bool:
        """Take an answer of each child, where there is one, and other news. Returns whether there was any."""
        progress = False
        for instance in self.instances:
            if instance.collect():
                progress = True
                if instance.death is not None:
                    self.after_death(instance)
        return progress

    def wait(self, full: Sequence[Instance] = (), deadline: Optional[float] = None) -> None:
        """Sleep until a child has news, is late (it is then ended), or has room, if it is one of the full.

        See first that what is waited for can come: stuck.check_not_stuck.

        Args:
            full: those for whose room is waited.
            deadline: not longer than until then, of time.monotonic().

        Raises:
            ClosedError: the pool was closed meanwhile.
        """
        ends: list[RingEnd] = [i.channel.receiver for i in self.instances if i.death is None]
        ends += [instance.channel.sender for instance in full]
        if ends != self._waited_for:
            self._waited_for = ends
            self._wait_list = WaitList(ends)
        deadlines = [deadline] if deadline is not None else []
        deadlines += [instance.deadline for instance in self.instances if instance.deadline is not None]
        timeout = min(deadlines) - time.monotonic() if deadlines else None
        in_time = self._watcher.doorbell.wait(self._wait_list, timeout)
        if self.closed:
            raise ClosedError("the pool was closed [closed]")
        if not in_time:
            for instance in self.instances:
                instance.end_if_late()
                self.after_death(instance)

    def may_wait(self, check: Callable[..., object], *arguments: object) -> bool:
        """Whether to wait, as far as `check` says. False: room was made, so it is to be looked again.

        Raises:
            UsageError, BufferError: as `check`, where there is nothing of which to make room.
        """
        try:
            check(*arguments)
        except BufferError:
            if not self._make_room():
                raise
            return False
        return True

    def _make_room(self) -> bool:
        """Copy results out of the rings that nobody has asked for yet. Returns whether there were any."""
        moved = [pending.move_result() for pending in list(self.early)]
        self.early.clear()
        return any(moved)

    def _wait_until_ready(self) -> None:
        waited, begin = self._watcher.doorbell.waited, time.monotonic()
        try:
            while True:
                self.collect()
                for instance in self.instances:
                    # One that has said hello, and ended just behind it, has been ready: see the next call.
                    if instance.death is not None and not instance.ready:
                        raise without_traceback(instance.death)
                if all(instance.ready for instance in self.instances):
                    return
                self.wait()
        finally:
            self._waited_for_start += self._watcher.doorbell.waited - waited
            self.statistics.start_seconds += time.monotonic() - begin

    def start_dead_anew(self) -> None:
        """Start those children anew that have died, and wait until they are ready.

        Raises:
            OptionError, ResourceError, PeerGoneError, ProtocolError, BridgeTimeoutError: as at first.
            UsageError: Sprint's questions are being answered.
        """
        if self.serving:
            raise UsageError(
                "serve_scores is at work, and the function that it calls cannot use the same pool: its "
                "Sprints recognise; give others a pool of their own [serving]"
            )
        started = False
        for instance in self.instances:
            if instance.look_for_death() is None:
                continue
            self.after_death(instance)
            if instance.death is not None:
                self._start_anew(instance)
                started = True
        if started:
            self._wait_until_ready()

    def after_death(self, instance: Instance) -> None:
        """Start a dead child anew and send again what it has not answered, as often as the user wants.

        Beyond that it fails. A child that has died before it was ready is not tried again, and idle ones not
        if several have answered nothing: the next would fare no better.
        """
        if instance.death is None:
            return
        death, orphans = instance.death, instance.orphans
        hopeful = instance.ready and (orphans or instance.fruitless <= self.max_restarts)
        again = self.max_restarts > 0 and hopeful and not self.closed and self._restart(instance)
        instance.orphans = []  # not before: Ctrl-C may come while a child is started
        for index, pending in enumerate(orphans):
            if index == 0:
                pending.attempts += 1
            if again and pending.wanted and pending.attempts <= self.max_restarts:
                continue
            if again and pending.wanted and self._skip_fatal:
                _log.warning(
                    "segment %r is skipped: Sprint has ended at it each time [skipped-fatal]", pending.name
                )
                pending.skip(death)
            else:
                pending.fail(death)
        self._to_send.extendleft(pending for pending in reversed(orphans) if not pending.done)

    def _restart(self, instance: Instance) -> bool:
        """Start a new child. False: it was not possible."""
        _log.warning("%s\nA new one is started. [peer-gone]", instance.death)
        try:
            self._start_anew(instance)
        except ShmbridgeError as error:
            _log.error("Sprint could not be started anew: %s [peer-gone]", error)
            return False
        return True

    def _first_death(self) -> ShmbridgeError:
        """What to tell where no child is alive."""
        return next(instance.death for instance in self.instances if instance.death is not None)

    def _start_anew(self, instance: Instance) -> None:
        instance.close()
        self._waited_for, self._wait_list = [], WaitList([])  # they keep the old one's memory
        instance.start()

    def _hand_out(self) -> list[Instance]:
        """Send what can be sent. Returns the children whose rings have no room for their next job."""
        full: list[Instance] = []
        while self._to_send:
            alive = [instance for instance in self.instances if instance.death is None]
            if not alive:
                death = self._first_death()
                while self._to_send:
                    self._to_send.popleft().fail(death)
                break
            # Behind an open claim it would wait for the user: not where another child can have it.
            unblocked = [i for i in alive if i.channel.sender.oldest_open() is None] or alive
            free = [i for i in unblocked if i.ready and i.in_flight < _IN_FLIGHT and i not in full]
            if not free:
                break
            instance = free[0] if len(free) == 1 else min(free, key=lambda i: (i.load, i.in_flight))
            pending = self._to_send.popleft()
            try:
                if not pending.start(instance):
                    full.append(instance)
                    self._to_send.appendleft(pending)
            except ProtocolError as error:  # of a child that was ended for it
                pending.attempts += 1
                if pending.attempts <= self.max_restarts:
                    self._to_send.appendleft(pending)
                else:
                    pending.fail(without_traceback(error))
                self.after_death(instance)
            except ShmbridgeError as error:
                pending.fail(without_traceback(error))
            except BaseException:  # such as BufferError: when the user has made room, it is asked for again
                if not pending.done and not instance.holds(pending):
                    self._to_send.appendleft(pending)
                raise
        return full
