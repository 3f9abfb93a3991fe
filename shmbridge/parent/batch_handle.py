"""What the user holds of a submitted batch: a future for its result."""

from __future__ import annotations

import concurrent.futures
import queue
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Optional, cast

from ..errors import BridgeTimeoutError, ShmbridgeError, UsageError, without_traceback
from ..ring import FloatArray
from .batch import BatchResult
from .latch import Latch
from .uninterrupted import uninterrupted

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["BatchHandle", "CompletedSegment"]


class CompletedSegment(NamedTuple):
    """A segment of a submitted batch that was answered.

    Attributes:
        segment_index: its place in the batch.
        loss: infinite if Sprint skipped it.
        error_signal: (time,label) float32, a view of the batch's error signal: only its own
            frames. None if none was asked for.
    """

    segment_index: int
    loss: float
    error_signal: Optional[FloatArray]


class BatchHandle(concurrent.futures.Future[BatchResult]):
    """A batch that was submitted: a concurrent.futures.Future for its BatchResult.

    `add_done_callback` calls in the pool's thread, in which no result may be waited for.
    Thread-safety: all methods may be called from any thread. In a fork, those that wait raise UsageError.

    Args:
        pool: the pool's parts.
        check_thread: raises UsageError in the pool's thread.
        on_cancel: makes the pool's thread look whether the batch is cancelled.
    """

    def __init__(
        self, pool: Lifecycle, check_thread: Callable[[], None], on_cancel: Callable[[], None]
    ) -> None:
        super().__init__()
        self._pool = pool
        self._on_cancel = on_cancel
        self._check_thread = check_thread
        self._turns: deque[None] = deque([None])  # popped once, to begin or to cancel; pop() is atomic
        self._is_cancelled = False
        self._sent, self._settled = Latch(), Latch()
        self._answered: queue.SimpleQueue[Optional[CompletedSegment]] = queue.SimpleQueue()
        self._is_iterated = False
        self._outcome: Optional[BatchResult] = None
        self._error: Optional[BaseException] = None

    # Future's own methods take a lock in Python, which a signal handler that raises may leave locked.

    @property
    def sent(self) -> bool:
        """Whether the posteriors may be changed: Sprint has all of them, and no restart needs them again."""
        return self._sent.is_open

    def wait_until_sent(self, timeout: Optional[float] = None) -> bool:
        """Wait until the posteriors may be changed. Return whether they may.

        Args:
            timeout: seconds; None for no limit.
        """
        return self._await(self._sent, timeout)

    def wait_until_settled(self) -> None:
        """Wait until the batch is answered, has failed or was cancelled."""
        self._await(self._settled, None)

    def done(self) -> bool:
        """Return whether `result` returns or raises at once."""
        return self._settled.is_open

    def cancelled(self) -> bool:
        """Return whether the batch was cancelled."""
        return self._is_cancelled

    def running(self) -> bool:
        """Return whether the batch can no longer be cancelled, and is not answered."""
        return not self._turns and not self.done()

    def result(self, timeout: Optional[float] = None) -> BatchResult:
        """Wait for the result of the batch. May be called again.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            BridgeTimeoutError: the result did not come in time.
            concurrent.futures.CancelledError: the batch was cancelled.
            UsageError: this process is a fork, or this is the pool's thread.
            ShmbridgeError: as get_batch_loss_and_error_signal.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return cast(BatchResult, self._outcome)  # one of both is set

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """Wait for the end of the batch. Return the error that `result` raises, or None.

        Args and errors are those of `result`.
        """
        if not self._await(self._settled, timeout):
            raise BridgeTimeoutError(f"Sprint gave no answer within {timeout} seconds [timeout]")
        if self._is_cancelled:
            raise concurrent.futures.CancelledError
        error = self._error
        return without_traceback(error) if isinstance(error, ShmbridgeError) else error

    def completed(self) -> Iterator[CompletedSegment]:
        """Yield each segment as soon as it is answered, in the order of the answers.

        Raises:
            UsageError: this was called before; this process is a fork; or this is the pool's thread.
            ShmbridgeError: segments failed; raised after the last of the others.
            concurrent.futures.CancelledError: the batch was cancelled.
        """
        if self._is_iterated:
            raise UsageError("completed() was called before; each segment is reported once [completed-twice]")
        self._is_iterated = True
        return self._completed()

    def _completed(self) -> Iterator[CompletedSegment]:
        while True:
            self._check_can_wait(self._settled)
            segment = self._answered.get()
            if segment is None:
                break
            yield segment
        self.result()

    def cancel(self) -> bool:
        """Cancel the batch if nothing of it was sent. Return whether it is cancelled."""
        if self._take_turn():
            self._is_cancelled = True
            self._on_cancel()
        return self._is_cancelled

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[BatchResult]], object]) -> None:
        """Call fn(self) when the batch is answered, has failed or was cancelled; now if it is.

        It is called in the pool's thread; now, in any thread. Errors that it raises are logged.
        """
        uninterrupted(lambda: super(BatchHandle, self).add_done_callback(fn))

    def _await(self, latch: Latch, timeout: Optional[float]) -> bool:
        self._check_can_wait(latch)
        return latch.wait(timeout)

    def _check_can_wait(self, latch: Latch) -> None:
        self._pool.check_not_forked()
        if not latch.is_open:
            self._check_thread()

    def _take_turn(self) -> bool:
        try:
            self._turns.pop()
        except IndexError:
            return False
        return True

    # --- what the pool calls

    def begin(self) -> bool:
        """Return whether the batch is sent. False: it was cancelled."""
        return self._take_turn() or not self._is_cancelled

    def note_answer(self, segment: CompletedSegment) -> None:
        """Pass on a segment that was answered."""
        self._answered.put(segment)

    def note_sent(self) -> None:
        """Release the posteriors: the pool does not read them again."""
        self._sent.open()

    def settle(self, outcome: Optional[BatchResult], error: Optional[BaseException]) -> None:
        """Store the result or the error, and call the callbacks."""
        self._outcome, self._error = outcome, error
        self._open_all()
        self.set_running_or_notify_cancel()
        if error is None:
            self.set_result(cast(BatchResult, outcome))  # one of both is set
        else:
            self.set_exception(error)

    def settle_as_cancelled(self) -> None:
        """Call the callbacks of a batch that was cancelled."""
        self._open_all()
        super().cancel()
        self.set_running_or_notify_cancel()

    def _open_all(self) -> None:
        self._sent.open()
        self._settled.open()
        self._answered.put(None)
