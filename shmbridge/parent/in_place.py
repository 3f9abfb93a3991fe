"""The in-place way: the network writes into the ring, and the error signal is read where it lies."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .._native import lib
from ..errors import PeerGoneError, ShmbridgeError, UsageError
from ..ring import Array, Claim, Record
from .batch import nan_error
from .copying import find_nan
from .dispatcher import Dispatcher
from .instance import Instance, Pending

_SKIPPED = lib.SHMB_SKIPPED  # looked up once: this stands in what runs for each segment


class SegmentResult:
    """Loss and error signal of one segment.

    Attributes:
        name: the full segment name.
        loss: infinite where Sprint discarded the segment.
        skipped: whether it did.
    """

    __slots__ = ("_record", "_zeros", "loss", "name", "skipped")

    def __init__(self, name: str, shape: tuple[int, int], record: Record) -> None:
        self.name = name
        self.loss = record.loss
        self.skipped = record.status == _SKIPPED
        self._record = record
        self._zeros: Optional[Array] = None
        if self.skipped:
            self.loss = float("inf")
            self._zeros = np.zeros(shape, np.float32)

    @property
    def error_signal(self) -> Array:
        """(time,label) float32, in shared memory: its place is free again when this and all views are gone.

        Raises:
            UsageError: it was released.
        """
        array = self._record.matrix
        if array is None:
            raise UsageError(f"the result of segment {self.name!r} was released")
        return array if self._zeros is None else self._zeros

    def release(self) -> None:
        """Give its place in the ring back.

        Raises:
            BufferError: an array still views it; it is then released when that one is gone.
        """
        self._record.release()

    def __enter__(self) -> SegmentResult:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class SegmentClaim(Pending):
    """A segment whose posteriors lie in shared memory. From `SprintInstancePool.claim`.

    Dropped, or left as a context manager, without `send`, it is given up. Thread-safety: the pool's.
    """

    _sent = False
    _result: Optional[SegmentResult] = None
    _error: Optional[ShmbridgeError] = None

    def __init__(self, dispatcher: Dispatcher, instance: Instance, name: str, claim: Claim) -> None:
        self.name = name
        self.rows = claim.rows
        self.columns = claim.columns
        self._dispatcher = dispatcher
        self._instance = instance
        self._channel = instance.channel
        self._claim: Optional[Claim] = claim  # None: sent, or given up

    @property
    def posteriors(self) -> Array:
        """(time,label) float32 in shared memory: write log posteriors into it.

        It may be kept after `send`; it then shows what was sent, and its place is not used anew meanwhile.

        Raises:
            UsageError: the claim was sent or aborted.
        """
        if self._claim is None:
            raise UsageError(f"segment {self.name!r} was already sent or given up")
        return self._claim.matrix

    def send(self, *, check_nan: bool = True) -> SegmentClaim:
        """Hand the posteriors to Sprint, without a copy.

        Args:
            check_nan: look through them first; Sprint aborts at a NaN.

        Raises:
            BatchError: there is a NaN. The claim stays open.
            UsageError: it was sent or aborted before.
            PeerGoneError: the child has ended; claim anew.
            ClosedError: the pool was closed.
        """
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            if check_nan:
                nan = find_nan(self.posteriors)
                if nan is not None:
                    raise nan_error(self.name, nan)
            if self._claim is None:
                raise UsageError(f"segment {self.name!r} was already sent or given up")
            if self._instance.death is not None:
                raise self._instance.death
            if self._channel is not self._instance.channel:
                raise PeerGoneError(
                    f"the Sprint for which segment {self.name!r} was claimed has ended and was started "
                    "anew; claim the segment again"
                )
            # In this order: Ctrl-C may come as soon as it is sent.
            claim, self._claim = self._claim, None
            self._sent = True
            self._instance.send(claim, self)
            self._dispatcher.statistics.posteriors_bytes += 4 * self.rows * self.columns
        return self

    def result(self, timeout: Optional[float] = None) -> SegmentResult:
        """Wait for loss and error signal.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            UsageError: it was not sent, or one that was claimed before it on the same child is not sent yet.
            BufferError: the results of earlier segments fill the ring, and are still held.
            RemoteError: Python code in Sprint raised.
            PeerGoneError: Sprint has ended.
            BridgeTimeoutError: it did not come in time; it may be asked for again.
        """
        with self._dispatcher.lock:
            if not self._sent:
                raise UsageError(f"segment {self.name!r} was not sent; call send() first")
            if not self.done:
                self._dispatcher.wait_for(self, timeout)
            if self._error is not None:
                raise self._error
            if self._result is None:
                raise UsageError(f"the result of segment {self.name!r} was already taken")
            return self._result

    def abort(self) -> None:
        """Give the claim up. Nothing to do where it was sent or given up."""
        with self._dispatcher.lock:
            if self._claim is not None:
                self._claim.abort()
                self._claim = None

    def deliver(self, record: Record) -> None:
        """Keep the answer for `result`."""
        self._dispatcher.statistics.count(record)
        self._result = SegmentResult(self.name, (self.rows, self.columns), record)
        self.done = True

    def fail(self, error: ShmbridgeError) -> None:
        """Keep the error for `result`."""
        self._dispatcher.statistics.failed += 1
        self._error = error
        self.done = True

    def __enter__(self) -> SegmentClaim:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
        if self._result is not None:
            self._result.release()
