"""The in-place way: the network writes into the ring, and the error signal is read where it lies."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .._native import lib
from ..errors import PeerGoneError, ShmbridgeError, UsageError, without_traceback
from ..ring import Array, Claim, Record
from .batch import nan_error
from .copying import copy_checked, find_nan
from .dispatcher import Dispatcher
from .instance import Instance
from .pending import Pending, Sender

_SKIPPED = lib.SHMB_SKIPPED  # looked up once: this stands in what runs for each segment


class SegmentResult:
    """Loss and error signal of one segment.

    As a context manager it is released at the end. Where that is left with an error, arrays that are still
    held are no further one: the place is free again when they are gone.

    Attributes:
        name: the full segment name.
        loss: infinite where Sprint discarded the segment.
        skipped: whether it did.
    """

    __slots__ = ("_array", "_record", "loss", "name", "skipped")

    def __init__(self, name: str, shape: tuple[int, int], record: Optional[Record]) -> None:
        self.name = name
        self._record = record
        self._array: Optional[Array] = None  # instead of the record's
        if record is None or record.status == _SKIPPED:
            self.skipped = True
            self.loss = float("inf")
            self._array = np.zeros(shape, np.float32)
            self._record = None
        else:
            self.skipped = False
            self.loss = record.loss

    @property
    def error_signal(self) -> Array:
        """(time,label) float32, in shared memory: its place is free again when this and all views are gone.

        It is a copy, in memory of its own, where it had to make room before its claim was asked for it.

        Raises:
            UsageError: it was released.
        """
        array = self._array if self._record is None else self._record.matrix
        if array is None:
            raise UsageError(f"the result of segment {self.name!r} was released [claim-state]")
        return array

    def release(self) -> None:
        """Give its place in the ring back.

        Raises:
            BufferError: an array still views it; it is then released when that one is gone.
        """
        if self._record is not None:
            self._record.release()
        self._array = None

    def move(self) -> bool:
        """Go on with a copy, so that its place in the ring is free. Returns whether it had one."""
        if self._record is None or self._record.matrix is None:
            return False
        self._array = self._record.matrix.copy()
        self._record = None
        return True

    def __enter__(self) -> SegmentResult:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.release()
        else:  # a BufferError would hide it; its traceback may be all that keeps an array
            self._record = self._array = None


class SegmentClaim(Pending):
    """A segment whose posteriors lie in shared memory. From `SprintInstancePool.claim`.

    Dropped, or left as a context manager, without `send`, it is given up. Thread-safety: the pool's.
    """

    _sent = False
    _result: Optional[SegmentResult] = None
    _error: Optional[ShmbridgeError] = None
    _taken = False  # the user has the result
    _kept: Optional[Array] = None  # the posteriors, until they are answered

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
            raise UsageError(f"segment {self.name!r} was already sent or given up [claim-state]")
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
        # Not `with`: in a round trip of 8 us, that takes 0.1 more.
        lock = self._dispatcher.lock
        lock.acquire()
        try:
            self._dispatcher.check_usable()
            if check_nan:
                nan = find_nan(self.posteriors)
                if nan is not None:
                    raise nan_error(self.name, nan)
            if self._claim is None:
                raise UsageError(f"segment {self.name!r} was already sent or given up [claim-state]")
            lost = self._instance.death is not None or self._channel is not self._instance.channel
            if self._dispatcher.max_restarts > 0:
                self._kept = self._claim.matrix  # in case that this, or the next, Sprint ends
            elif lost:
                if self._instance.death is not None:
                    raise without_traceback(self._instance.death)
                raise PeerGoneError(
                    f"the Sprint for which segment {self.name!r} was claimed has ended and was started "
                    "anew; claim the segment again [claim-lost]"
                )
            # In this order: Ctrl-C may come as soon as it is sent.
            claim, self._claim = self._claim, None
            self._sent = True
            if lost:
                self._dispatcher.send_again(self)
            else:
                self._instance.send(claim, self)
            self._dispatcher.statistics.posteriors_bytes += 4 * self.rows * self.columns
        finally:
            lock.release()
        return self

    def start(self, sender: Sender) -> bool:
        """Send it to another Sprint than it was claimed for. False: there is no room in its ring now.

        Raises:
            BatchError: there is a NaN, which the Sprint that has ended may have written.
        """
        if self._kept is None:
            raise UsageError(f"segment {self.name!r} was not kept to be sent again [claim-state]")
        claim = sender.try_claim(lib.SHMB_POSTERIORS, self.rows, self.columns, self.name.encode())
        if claim is None:
            return False
        nan = copy_checked(claim.matrix, self._kept)
        if nan is not None:
            claim.abort()
            raise nan_error(self.name, nan)
        sender.send(claim, self)
        return True

    def result(self, timeout: Optional[float] = None) -> SegmentResult:
        """Wait for loss and error signal.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            UsageError: it was not sent, or one that was claimed before it on the same child is not sent yet.
            BufferError: results that were taken earlier fill the ring, and are still held.
            RemoteError: Python code in Sprint raised.
            PeerGoneError: Sprint has ended.
            BridgeTimeoutError: it did not come in time; it may be asked for again.
        """
        with self._dispatcher.lock:
            if not self._sent:
                raise UsageError(f"segment {self.name!r} was not sent; call send() first [claim-state]")
            if not self.done:
                self._dispatcher.wait_for(self, timeout)
            if self._error is not None:
                raise without_traceback(self._error)
            if self._result is None:
                raise UsageError(f"the result of segment {self.name!r} was already taken [claim-state]")
            self._taken = True
            return self._result

    def abort(self) -> None:
        """Give the claim up. Nothing to do where it was sent or given up."""
        with self._dispatcher.lock:
            if self._claim is not None:
                self._claim.abort()
                self._claim = None

    def deliver(self, record: Record) -> None:
        """Keep the answer for `result`."""
        dispatcher = self._dispatcher
        dispatcher.statistics.count(record)
        self._result = SegmentResult(self.name, (self.rows, self.columns), record)
        self.done = True
        self._kept = None
        if dispatcher.waited_for is not self:
            dispatcher.early.add(self)

    def move_result(self) -> bool:
        """Copy a result that nobody has asked for yet out of the ring. Returns whether it lay there."""
        return not self._taken and self._result is not None and self._result.move()

    def fail(self, error: ShmbridgeError) -> None:
        """Keep the error for `result`."""
        self._dispatcher.statistics.failed += 1
        self._error = error
        self.done = True
        self._kept = None

    def skip(self, error: ShmbridgeError) -> None:
        """Keep, for `result`, the answer of a segment that Sprint discarded."""
        self._dispatcher.statistics.failed += 1
        self._result = SegmentResult(self.name, (self.rows, self.columns), None)
        self.done = True
        self._kept = None

    def __enter__(self) -> SegmentClaim:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        self.abort()
        if self._result is not None:
            self._result.__exit__(error_type)
