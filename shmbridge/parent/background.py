"""The thread that works on submitted batches. It exists while there are any."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UsageError
from .arguments import BatchArguments
from .batch_handle import BatchHandle
from .call_lock import CallLock
from .latch import Latch
from .submitted_batch import Settlement, Submission
from .uninterrupted import start_thread
from .waits import SubmittedAnswers
from .watcher import errors_contained

if TYPE_CHECKING:
    from .lifecycle import Lifecycle


class Background:
    """Submitted batches, and the thread that has the children answer them.

    The thread holds the pool's lock while it works. It passes the lock to any call that waits for it; that
    call delivers answers to submitted batches too.

    Args:
        max_batches: how many batches may be submitted and not answered.
        poke: makes the call that waits for the children look at its Wait again.
    """

    def __init__(self, max_batches: int, poke: Callable[[], None]) -> None:
        self._poke = poke
        self._max_batches = max_batches
        self._gate = CallLock(lambda: None)  # held by the call of submit
        self._new: deque[Submission] = deque()
        self._begun: list[Submission] = []  # guarded by the pool's lock
        self._unsettled: deque[BatchHandle] = deque()  # guarded by the gate
        self._threads: set[int] = set()
        self._working = CallLock(lambda: None)  # held by the thread that works
        self._ended = Latch()  # of the latest thread
        self._ended.open()

    def submit(
        self,
        owner: object,
        pool: Lifecycle,
        arguments: BatchArguments,
        *,
        block: bool,
    ) -> BatchHandle:
        """Have the thread send a batch.

        Args:
            owner: the user's pool, which lives until the batch is answered.
            pool: its parts.
            arguments: of the batch, checked.
            block: whether to wait if too many batches are in flight.

        Raises:
            BufferError: too many batches are in flight, and `block` is False, or this is the thread that
                answers them.
            ResourceError: no thread is left.
        """
        handle = BatchHandle(pool, self.check_thread, self._poke)
        submission = Submission(handle, arguments)
        try:
            self._wait_for_place(block and not self._is_own_thread())
            try:
                self._unsettled.append(handle)
                self._new.append(submission)
                if self._is_working():  # the thread looks again after it has stopped to work
                    self._poke()
                else:
                    self._start(owner, pool)
            except BaseException:  # the caller has no handle
                handle.cancel()
                with contextlib.suppress(ValueError):
                    self._unsettled.remove(handle)
                with contextlib.suppress(ValueError):  # the thread has begun it
                    self._new.remove(submission)
                raise
        finally:
            self._gate.release()
        return handle

    def join(self) -> None:
        """Wait until the thread has ended, unless this is the thread."""
        if not self._is_own_thread():
            with self._working:
                pass
            self._ended.wait()

    def check_thread(self) -> None:
        """Raise UsageError in the thread that answers submitted batches."""
        if self._is_own_thread():
            raise UsageError(
                "a submitted batch was waited for in the thread that answers it, by a done callback for "
                "instance; wait in another thread [wait-in-callback]"
            )

    def _is_own_thread(self) -> bool:
        return threading.get_ident() in self._threads

    def _wait_for_place(self, block: bool) -> None:
        """Take the gate, and wait until one batch more may be in flight."""
        unsettled = self._unsettled
        has_gate = True
        if block:
            self._gate.acquire()
        else:
            has_gate = self._gate.acquire_now()
        while True:
            while unsettled and unsettled[0].done():
                unsettled.popleft()
            if has_gate and sum(not handle.done() for handle in unsettled) < self._max_batches:
                return
            if not block:
                raise BufferError(
                    f"{self._max_batches} batches are in flight; wait for one, or increase the option "
                    "max_batches_in_flight [batches-in-flight]"
                )
            unsettled[0].wait_until_settled()

    def _is_working(self) -> bool:
        try:
            return not self._working.acquire_now()
        finally:
            self._working.release()

    def _start(self, owner: object, pool: Lifecycle) -> None:
        ended = Latch()
        opener = ended.opener()
        self._ended = ended
        start_thread(self._run, owner, pool, opener)

    # --- the thread

    def _run(self, owner: object, pool: Lifecycle, opener: object) -> None:
        del opener  # a traceback that refers to this frame must not keep it
        this = threading.get_ident()
        self._threads.add(this)
        try:
            threading.current_thread().name = "shmbridge batches"  # for log records and debuggers
            # After an interrupted submit, there may be two threads; the other one ends at once.
            while self._new and self._working.acquire_now():
                try:
                    with errors_contained():
                        self._work(pool)
                finally:
                    self._fail_rest()
                    self._working.release()
        finally:
            self._threads.discard(this)
            # Python before 3.12 keeps the name of a thread that threading has not started.
            getattr(threading, "_active", {}).pop(this, None)
            del owner  # the pool closes itself here if nothing else refers to it

    def _work(self, pool: Lifecycle) -> None:
        """Work until each submitted batch is answered, has failed or was cancelled."""
        lock = pool.lock
        while self._new or self._begun:
            settlements: list[Settlement] = []
            try:
                lock.acquire_in_turn()
                self._begin_new(pool, settlements)
                if self._begun and not settlements:
                    self._run_until_news(pool, settlements)
            finally:
                lock.release()
            for settle in settlements:  # without the lock: callbacks may use the pool
                with errors_contained():
                    settle()

    def _fail_rest(self) -> None:
        """Fail what an error of our own, such as a MemoryError, has left."""
        while self._begun:
            with errors_contained():
                self._begun.pop().failed(MemoryError("the pool's thread failed [out-of-memory]"))()

    def _begin_new(self, pool: Lifecycle, settlements: list[Settlement]) -> None:
        while self._new:
            submission = self._new.popleft()
            handle = submission.handle
            if handle.cancelled():
                settlements.append(handle.settle_as_cancelled)
                continue
            try:
                submission.begin(pool)
                self._begun.append(submission)
            except BaseException as error:
                settlements.append(submission.failed(error))

    def _run_until_news(self, pool: Lifecycle, settlements: list[Settlement]) -> None:
        """Have the children answer until a batch is complete or submitted, or the lock is wanted."""
        begun, lock = self._begun, pool.lock

        def has_news() -> bool:
            return bool(self._new) or lock.is_wanted or any(each.is_over for each in begun)

        try:
            pool.scheduler.run_until(SubmittedAnswers(has_news, pool.scheduler.children))
        except BaseException as error:
            settlements += [submission.failed(error) for submission in begun]
            begun.clear()
        for submission in [each for each in begun if each.is_over]:
            begun.remove(submission)
            settlements.append(submission.settlement(pool))
