"""Hands jobs to children and answers to jobs: the one place where the trainer's process waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Optional

from ..doorbell import WaitList
from ..errors import BridgeTimeoutError, ClosedError, ShmbridgeError, UsageError
from ..ring import RingEnd
from .batch import Batch, Job
from .instance import Instance, Pending
from .options import Options
from .statistics import Statistics
from .watcher import Watcher

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
        statistics: what has crossed the bridge so far.
        instances: the children.
        foreign: in a fork of the process that created this: the pid of that process; else None.
        closed: whether `close` was called.
    """

    def __init__(self, options: Options) -> None:
        self.lock = threading.RLock()
        self.statistics = Statistics()
        self.instances: list[Instance] = []
        self.foreign: Optional[int] = None
        self.closed = False
        self._start_timeout = options.start_timeout
        self._watcher = Watcher()
        self._waited_for: list[RingEnd] = []
        self._wait_list = WaitList([])
        try:
            for _ in range(options.num_instances):
                self.instances.append(Instance(options, self._watcher))
            self._wait_until_ready()
        except BaseException:
            for instance in self.instances:
                instance.kill()
            self.close()
            raise

    def check_usable(self) -> None:
        """Raise UsageError in a fork, ClosedError after close."""
        if self.foreign is not None:
            raise UsageError(
                f"this pool belongs to process {self.foreign}, of which this one is a fork: "
                "create a pool of its own in each process"
            )
        if self.closed:
            raise ClosedError("the pool was closed")

    def close(self) -> None:
        """End the children and the watcher. May be called again; does nothing in a fork."""
        if self.closed or self.foreign is not None:
            return
        self.closed = True
        for instance in self.instances:
            instance.ask_to_exit()
        for instance in self.instances:
            instance.close()
        self._watcher.close()

    def leave_to_parent(self, parent_pid: int) -> None:
        """After a fork, in the child of the fork: let go of everything without touching it."""
        if self.closed:
            return
        self.foreign = parent_pid
        self.lock = threading.RLock()  # the old one may be held by a thread that the fork did not take along
        for instance in self.instances:
            instance.leave_to_parent()
        self._watcher.leave_to_parent()

    def run(self, batch: Batch, jobs: Sequence[Job]) -> None:
        """Hand the jobs out in their order, and collect the answers, until all are answered or failed.

        Children that have died before are started anew.

        Raises:
            UsageError: a claim is open, behind which everything would wait.
            BufferError: what the user holds leaves no room.
        """
        self.start_dead_anew()
        for instance in self.instances:
            instance.check_no_open_claim()
        waiting = deque(jobs)
        try:
            while True:
                progress = self.collect()
                full = self._hand_out(waiting)
                if batch.open_jobs == 0:
                    return
                if not progress:
                    self.wait(full)
        except BaseException:
            batch.abandoned = True
            raise

    def wait_for(self, pending: Pending, timeout: Optional[float]) -> None:
        """Collect answers until this one is there.

        Raises:
            BridgeTimeoutError: it is not, after so many seconds.
            UsageError, BufferError: it never will be: see Instance.check_not_stuck.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not pending.done:
            if self.collect():
                continue
            self.check_usable()
            left = None if deadline is None else deadline - time.monotonic()
            if not self.wait(timeout=left):
                raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds")

    def least_loaded(self) -> Instance:
        """The child with the least to do; what is claimed and not sent counts as well."""
        if len(self.instances) == 1:
            return self.instances[0]
        return min(self.instances, key=lambda i: (i.load, i.channel.sender.used))

    def collect(self) -> bool:
        """Hand out all answers that have come. Returns whether there were any."""
        progress = False
        for instance in self.instances:
            if instance.collect():
                progress = True
        return progress

    def wait(self, full: Sequence[Instance] = (), timeout: Optional[float] = None) -> bool:
        """Sleep until a child has news, or one of the full ones may have room. False: the time ran out.

        Raises:
            UsageError, BufferError: it would be in vain: see Instance.check_not_stuck.
        """
        for instance in self.instances:
            instance.check_not_stuck()
        ends: list[RingEnd] = [i.channel.receiver for i in self.instances if i.death is None]
        ends += [instance.channel.sender for instance in full]
        if ends != self._waited_for:
            self._waited_for = ends
            self._wait_list = WaitList(ends)
        return self._watcher.doorbell.wait(self._wait_list, timeout)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout
        while True:
            for instance in self.instances:
                instance.collect()
                if instance.death is not None:
                    raise instance.death
            if all(instance.ready for instance in self.instances):
                return
            if not self.wait(timeout=deadline - time.monotonic()):
                raise BridgeTimeoutError(
                    f"Sprint was not ready within {self._start_timeout} seconds (start_timeout)"
                )

    def start_dead_anew(self) -> None:
        """Start those children anew that have died, and wait until they are ready.

        Raises:
            OptionError, ResourceError, PeerGoneError, ProtocolError, BridgeTimeoutError: as at first.
        """
        anew = False
        for instance in self.instances:
            if instance.look_for_death() is not None:
                instance.close()
                instance.start()
                anew = True
        if anew:
            self._wait_until_ready()

    def _hand_out(self, waiting: deque[Job]) -> list[Instance]:
        """Send what can be sent. Returns the children whose rings have no room for their next job."""
        full: list[Instance] = []
        while waiting:
            alive = [instance for instance in self.instances if instance.death is None]
            if not alive:
                death = next(instance.death for instance in self.instances if instance.death is not None)
                while waiting:
                    waiting.popleft().fail(death)
                break
            free = [i for i in alive if i.in_flight < _IN_FLIGHT and i not in full]
            if not free:
                break
            instance = min(free, key=lambda i: (i.load, i.in_flight))
            try:
                if not waiting[0].start(instance):
                    full.append(instance)
                    continue
            except ShmbridgeError as error:
                waiting[0].fail(error)
            waiting.popleft()
        return full
