"""The pool: children that share a batch, and what the user calls."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from .._native import lib
from ..doorbell import WaitList
from ..errors import BridgeTimeoutError, ClosedError, OptionError, ShmbridgeError, UsageError
from ..ring import Array
from .automata import AutomatonJob, combine
from .batch import Batch, Job, SegmentJob, check_batch, check_shape, check_tags
from .in_place import SegmentClaim
from .instance import Instance
from .options import Options
from .statistics import Statistics
from .watcher import Watcher

# One segment that Sprint computes, and the next already in its ring: more would only tie segments to a
# child before it is known which one is free first.
_IN_FLIGHT = 2


class SprintInstancePool:
    """Sprint children that share the segments of each batch.

    The longest segments go first, each to the child that has the least to do. Use it as a context manager,
    or call `close`; at the interpreter's end, and when nothing refers to it any more, it closes itself.

    Thread-safety: may be used from several threads; one call works at a time, the others wait. After a
    fork, it belongs to the process that created it: in the other one every call raises UsageError.

    Args:
        options: as in `shmbridge.parent.options.Options`, or under the names of RETURNN's configs
            (sprintExecPath, sprintConfigStr, sprintControlConfig, minPythonControlVersion,
            usePythonSegmentOrder, numInstances).

    Raises:
        OptionError: an option is unknown, missing or wrong; the executable is missing or cannot be executed.
        ResourceError: there is not enough shared memory, or no process or descriptor left.
        PeerGoneError: a child ended before it was ready; the message has its last output.
        ProtocolError: a child has another version of shmbridge.
        BridgeTimeoutError: a child was not ready within start_timeout.

    Attributes:
        statistics: what has crossed the bridge so far.
        lock: held by the call that works.
    """

    def __init__(self, **options: Any) -> None:
        self._options = Options.parse(options)
        self.lock = threading.RLock()
        self.statistics = Statistics()
        self._labels = self._options.labels
        self._foreign_since_fork_of: Optional[int] = None
        self._watcher = Watcher()
        self._instances: list[Instance] = []
        # Runs at close, when the pool is collected, or at the interpreter's end, whichever comes first.
        self._shut_down = weakref.finalize(self, _shut_down, self._instances, self._watcher)
        _pools.add(self)
        try:
            for _ in range(self._options.num_instances):
                self._instances.append(Instance(self._options, self._watcher))
            self._wait_until_ready()
        except BaseException:
            for instance in self._instances:
                instance.kill()
            self._shut_down()
            raise

    # --- what the user calls

    @property
    def num_instances(self) -> int:
        """How many children there are."""
        return self._options.num_instances

    def get_batch_loss_and_error_signal(
        self, log_posteriors: Array, seq_lengths: Array, tags: Sequence[Any], *, out: Optional[Array] = None
    ) -> tuple[Array, Array]:
        """Loss and error signal of a batch of segments.

        Args:
            log_posteriors: (time,batch,label), log space, any float dtype, any strides.
            seq_lengths: (batch,) frames of each segment, any integer dtype.
            tags: full segment names, one for each.
            out: where to put the error signal, float32 (time,batch,label); None: a new array.

        Returns:
            loss (batch,) float32, infinite for segments that Sprint discarded; error signal
            (time,batch,label) float32, y_hat - y as Sprint gives it (its "error-signal": the gradient before
            the softmax), zero beyond each length and for discarded segments.

        Raises:
            BatchError: the arguments do not fit together, there is a NaN or a segment without frames.
            SegmentTooLargeError: a segment does not fit into a ring. Nothing was sent.
            RemoteError: Python code in Sprint raised, for instance because it knows no such segment.
            PeerGoneError: a child has ended. It is started anew at the next call.
            ClosedError: the pool was closed.
        """
        with self.lock:
            self._check_usable()
            labels = self._known_labels()
            posteriors, lengths, names, error_signal = check_batch(
                log_posteriors, seq_lengths, tags, out, labels
            )
            n_labels = posteriors.shape[2]
            sender = self._instances[0].channel.sender
            for name, length in zip(names, lengths):
                sender.check_size(length, n_labels, len(name.encode()))
            loss: Array = np.full(len(names), np.nan, np.float32)
            batch = Batch(self.statistics)
            jobs: list[Job] = [
                SegmentJob(batch, b, name, posteriors[:length, b], loss, error_signal[:, b])
                for b, (name, length) in enumerate(zip(names, lengths))
            ]
            jobs.sort(key=lambda job: job.rows, reverse=True)
            self._run(batch, jobs)
            batch.raise_first()
            self._labels = n_labels if names else labels
            return loss, error_signal

    def get_automata_for_batch(self, tags: Sequence[Any]) -> tuple[Array, Array, Array]:
        """The allophone state automata of segments, put together into one.

        Args:
            tags: full segment names.

        Returns:
            edges (4,E) uint32: from, to, emission, sequence; weights (E,) float32; start_end_states
            (2,batch) uint32. The states of each sequence come behind those of the one before.

        Raises:
            BatchError, RemoteError, PeerGoneError, ClosedError: as in get_batch_loss_and_error_signal.
        """
        with self.lock:
            self._check_usable()
            batch = Batch(self.statistics)
            jobs = [AutomatonJob(batch, name) for name in check_tags(tags)]
            self._run(batch, jobs)
            batch.raise_first()
            return combine(jobs)

    def claim(self, tag: str, frames: int, labels: int) -> SegmentClaim:
        """A place in shared memory for the posteriors of a segment: write, `send`, `result`.

        Waits for room where Sprint is about to make some.

        Args:
            tag: full segment name.
            frames: time.
            labels: the label dimension.

        Raises:
            BatchError: the name or shape cannot be.
            SegmentTooLargeError: it does not fit into a ring.
            BufferError: the ring is full of claims and arrays that the user holds.
            PeerGoneError, ClosedError: as in get_batch_loss_and_error_signal.
        """
        with self.lock:
            self._check_usable()
            (name,) = check_tags([tag])
            check_shape(name, frames, labels, self._known_labels())
            encoded = name.encode()
            instance = min(self._instances, key=lambda i: i.load + sum(c.rows for c in i.open_claims))
            instance.channel.sender.check_size(frames, labels, len(encoded))
            while True:
                claim = instance.try_claim(lib.SHMB_POSTERIORS, frames, labels, encoded)
                if claim is not None:
                    return SegmentClaim(self, instance, name, frames, labels, claim)
                if instance.collect():
                    continue
                if instance.death is not None:
                    raise instance.death
                self._wait(full=[instance])

    def close(self) -> None:
        """End the children and free everything. Arrays that are held stay valid. May be called again."""
        with self.lock:
            if self._foreign_since_fork_of is None:
                self._shut_down()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return not self._shut_down.alive

    def __enter__(self) -> SprintInstancePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.num_instances} instances"
        return f"<{type(self).__name__} {self._options.sprint_exec_path!r}, {state}>"

    def wait_for(self, done: Callable[[], bool], timeout: Optional[float]) -> None:
        """Collect answers until `done()`; for SegmentClaim. Holds the lock of its caller.

        Raises:
            BridgeTimeoutError: it is not, after so many seconds.
            UsageError, BufferError: it never will be: see Instance.check_not_stuck.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not done():
            if self._collect():
                continue
            self._check_usable()
            left = None if deadline is None else deadline - time.monotonic()
            if not self._wait(timeout=left):
                raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds")

    # --- within

    def _check_usable(self) -> None:
        if self._foreign_since_fork_of is not None:
            raise UsageError(
                f"this pool belongs to process {self._foreign_since_fork_of}, of which this one is a fork: "
                "create a pool of its own in each process"
            )
        if self.closed:
            raise ClosedError("the pool was closed")

    def _known_labels(self) -> Optional[int]:
        """The label dimension, as given, told by Sprint, or seen to work."""
        return next((i.labels for i in self._instances if i.labels is not None), self._labels)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._options.start_timeout
        while True:
            for instance in self._instances:
                instance.collect()
                if instance.death is not None:
                    raise instance.death
            if all(instance.ready for instance in self._instances):
                return
            if not self._wait(timeout=deadline - time.monotonic()):
                raise BridgeTimeoutError(
                    f"Sprint was not ready within {self._options.start_timeout} seconds (start_timeout)"
                )

    def _start_dead_anew(self) -> None:
        dead = [instance for instance in self._instances if instance.death is not None]
        for instance in dead:
            instance.close()
            instance.start()
        if dead:
            self._wait_until_ready()

    def _run(self, batch: Batch, jobs: Sequence[Job]) -> None:
        """Hand the jobs out in their order, and collect the answers, until all are answered or failed."""
        for instance in self._instances:
            instance.collect()
            for claim in instance.open_claims:
                raise UsageError(
                    f"segment {claim.name!r} was claimed and is not sent yet: what is sent after it would "
                    "wait behind it; send or abort it first"
                )
        self._start_dead_anew()
        waiting = deque(jobs)
        try:
            while True:
                progress = self._collect()
                full = self._hand_out(batch, waiting)
                if batch.open_jobs == 0:
                    return
                if not progress:
                    self._wait(full)
        except BaseException:
            batch.abandoned = True
            raise

    def _collect(self) -> bool:
        """Hand out all answers that have come. Returns whether there were any."""
        progress = False
        for instance in self._instances:
            progress |= instance.collect()
        return progress

    def _hand_out(self, batch: Batch, waiting: deque[Job]) -> list[Instance]:
        """Send what can be sent. Returns the children whose rings have no room for their next job."""
        full: list[Instance] = []
        while waiting:
            alive = [instance for instance in self._instances if instance.death is None]
            if not alive:
                for job in waiting:
                    job.fail(_death_of(self._instances))
                waiting.clear()
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

    def _wait(self, full: Sequence[Instance] = (), timeout: Optional[float] = None) -> bool:
        """Sleep until a child has news, or one of the full ones may have room. False: the time ran out."""
        for instance in self._instances:
            instance.check_not_stuck()
        ends = [instance.channel.receiver.pointer for instance in self._instances if instance.death is None]
        ends += [instance.channel.sender.pointer for instance in full]
        return self._watcher.doorbell.wait(WaitList(ends), timeout)

    def _leave_to_parent(self, parent_pid: int) -> None:
        if self.closed:
            return
        self._foreign_since_fork_of = parent_pid
        self._shut_down.detach()
        for instance in self._instances:
            instance.leave_to_parent()
        self._watcher.leave_to_parent()


class SprintSubprocessInstance(SprintInstancePool):
    """One Sprint child: a pool of one.

    Args, errors and thread-safety: those of SprintInstancePool.
    """

    def __init__(self, **options: Any) -> None:
        if options.get("num_instances", options.get("numInstances", 1)) != 1:
            raise OptionError("a SprintSubprocessInstance is one child; use SprintInstancePool for several")
        super().__init__(**options)


def _death_of(instances: Sequence[Instance]) -> ShmbridgeError:
    return next(instance.death for instance in instances if instance.death is not None)


def _shut_down(instances: list[Instance], watcher: Watcher) -> None:
    for instance in instances:
        instance.ask_to_exit()
    for instance in instances:
        instance.close()
    watcher.close()


_pools: weakref.WeakSet[SprintInstancePool] = weakref.WeakSet()
_pid = os.getpid()


def _after_fork_in_child() -> None:
    """Keep a fork (a data loader, say) from acting as an end of the bridge.

    It shares the memory, but must not move positions, hold the pipes open or end the children.
    """
    global _pid
    parent_pid, _pid = _pid, os.getpid()
    for pool in list(_pools):
        pool._leave_to_parent(parent_pid)


os.register_at_fork(after_in_child=_after_fork_in_child)
