"""A batch of segments: what is checked before anything is sent, and where the answers go."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Optional

import numpy as np

from .._native import lib
from ..errors import BatchError, ShmbridgeError, without_traceback
from ..ring import Array, Record
from .copying import copy_checked, copy_out, is_float, two_threads_are_good
from .instance import Instance
from .pending import Pending, Sender
from .statistics import Counters

# The last argument of both: whether two threads are to copy.
# (target in the ring, source, …) -> (time, label) of the first NaN, with which the copy ended, or None
CopyIn = Callable[[Array, Any, bool], Optional[tuple[int, int]]]
# (target, source in the ring, …), which is given back afterwards
CopyOut = Callable[[Any, Array, bool], None]


class Batch:
    """What the jobs of one call have in common.

    Args:
        statistics: the pool's.
        instances: the pool's.

    Attributes:
        open_jobs: how many are not answered.
        errors: what went wrong, in the order in which it did.
        abandoned: the call has been left; answers that still come are dropped.
    """

    def __init__(self, statistics: Counters, instances: Sequence[Instance]) -> None:
        self._instances = instances
        self.open_jobs = 0
        self.errors: list[ShmbridgeError] = []
        self.abandoned = False
        self.statistics = statistics

    @property
    def two_threads(self) -> bool:
        """Whether two threads are to copy a large matrix now."""
        busy = 0
        for instance in self._instances:
            if instance.in_flight:
                busy += 1
        return two_threads_are_good(busy)

    def raise_first(self, partial: Optional[tuple[Array, Array]] = None) -> None:
        """Raise the first error, if any; `partial` is what the others have given."""
        if self.errors:
            error = without_traceback(self.errors[0])
            error.partial = partial
            try:
                raise error
            finally:
                del error  # else this frame keeps it, and it, by its traceback, this frame


class Job(Pending):
    """One thing to be sent to whichever child is free, and its answer.

    Args:
        batch: the call's.
        name: the full segment name.
    """

    def __init__(self, batch: Batch, name: str) -> None:
        self.name = name
        self._batch = batch
        batch.open_jobs += 1

    @property
    def wanted(self) -> bool:
        """Whether the call that it belongs to has not been left."""
        return not self._batch.abandoned

    def deliver(self, record: Record) -> None:
        """Take the answer, unless nobody waits for it any more."""
        self._end()
        if self.wanted:
            self._take(record)

    def fail(self, error: ShmbridgeError) -> None:
        """The batch has an error."""
        self._end()
        self._batch.errors.append(error)
        self._batch.statistics.failed += 1

    def _end(self) -> None:
        self.done = True
        self._batch.open_jobs -= 1

    @abc.abstractmethod
    def _take(self, record: Record) -> None: ...


class SegmentJob(Job):
    """One segment of a batch: posteriors into the ring, loss and error signal out of it.

    Args:
        batch: the call's.
        index: of the segment in the batch.
        name: the full segment name.
        posteriors: (time,label), only the segment's own frames.
        loss: (batch,) float32; [index] is written.
        error_signal: (time,label) with the whole batch's time; beyond the segment it is zeroed.
            None: it is not kept.
        copy_in: copies the posteriors into a claim, as copying.copy_checked does.
        copy_out: copies a received error signal, as copying.copy_out does.
    """

    def __init__(
        self,
        batch: Batch,
        index: int,
        name: str,
        posteriors: Any,
        loss: Array,
        error_signal: Any,
        *,
        copy_in: CopyIn = copy_checked,
        copy_out: CopyOut = copy_out,
    ) -> None:
        super().__init__(batch, name)
        self.rows, self.columns = posteriors.shape
        self._index = index
        self._posteriors = posteriors
        self._loss = loss
        self._error_signal = error_signal
        self._copy_in = copy_in
        self._copy_out = copy_out

    def start(self, sender: Sender) -> bool:
        """Copy the posteriors into the child's ring. False: there is no room now.

        Raises:
            BatchError: there is a NaN.
        """
        claim = sender.try_claim(lib.SHMB_POSTERIORS, self.rows, self.columns, self.name.encode())
        if claim is None:
            return False
        begin = time.perf_counter()
        try:
            nan = self._copy_in(claim.matrix, self._posteriors, self._batch.two_threads)
        except BaseException:  # whoever handles it may keep the traceback, and with it the claim
            claim.abort()
            raise
        self._batch.statistics.copy_seconds += time.perf_counter() - begin
        if nan is not None:
            claim.abort()
            raise nan_error(self.name, nan, self._index)
        sender.send(claim, self)
        self._batch.statistics.posteriors_bytes += 4 * self.rows * self.columns
        if self._error_signal is not None:
            self._error_signal[self.rows :] = 0  # while Sprint computes
        return True

    def skip(self, error: ShmbridgeError) -> None:
        """Give it the answer of a segment that Sprint discarded."""
        self._end()
        self._batch.statistics.failed += 1
        self._discard()

    def _take(self, record: Record) -> None:
        self._batch.statistics.count(record)
        matrix = record.matrix
        if record.status == lib.SHMB_SKIPPED or matrix is None:
            self._discard()
            return
        self._loss[self._index] = record.loss
        if self._error_signal is not None:
            begin = time.perf_counter()
            self._copy_out(self._error_signal[: self.rows], matrix, self._batch.two_threads)
            self._batch.statistics.copy_seconds += time.perf_counter() - begin

    def _discard(self) -> None:
        self._loss[self._index] = np.inf
        if self._error_signal is not None:
            self._error_signal[: self.rows] = 0


def nan_error(name: str, nan: tuple[int, int], index: Optional[int] = None) -> BatchError:
    """The error that says where the NaN is."""
    where = "" if index is None else f" (index {index} of the batch)"
    return BatchError(
        f"the posteriors of segment {name!r}{where} are NaN at time {nan[0]}, label {nan[1]}: "
        "Sprint would abort at that [nan]"
    )


def check_tag(tag: Any, index: Optional[int] = None) -> tuple[str, bytes]:
    """The segment name as str, and in UTF-8. `index` is its place in the batch, for the error.

    Raises:
        BatchError: it is empty, or no str or UTF-8 bytes.
    """
    try:
        name = tag.decode("utf-8") if isinstance(tag, bytes) else tag
        if isinstance(name, str) and name:
            return str(name), name.encode("utf-8")  # numpy's str_ shows its type in each message
        problem = "; it has to be a full segment name"
    except UnicodeError as error:
        problem = f", which is not UTF-8: {error}"
    where = "the tag" if index is None else f"tags[{index}]"
    raise BatchError(f"{where} is {tag!r}{problem} [segment-names]")


def check_tags(tags: Iterable[Any]) -> list[str]:
    """The segment names as str.

    Raises:
        BatchError: one is no name, or there twice.
    """
    names = [check_tag(tag, index)[0] for index, tag in enumerate(tags)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BatchError(f"the segment {twice!r} is in the batch more than once [segment-names]")
    return names


def check_shape(name: str, frames: int, labels: int, expected_labels: Optional[int]) -> None:
    """Raise BatchError where Sprint would abort at posteriors of this shape."""
    if frames < 1 or labels < 1:
        raise BatchError(
            f"segment {name!r} has {frames} frames x {labels} labels; both have to be 1 at least"
            " [batch-shapes]"
        )
    if expected_labels is not None and labels != expected_labels:
        raise BatchError(
            f"the posteriors have {labels} labels, Sprint's model has {expected_labels} [num-labels]"
        )


def check_batch(
    log_posteriors: Any, seq_lengths: Any, tags: Sequence[Any], out: Optional[Array], labels: Optional[int]
) -> tuple[Array, list[int], list[str], Array]:
    """Check the arguments of get_batch_loss_and_error_signal, before anything is sent.

    Returns:
        posteriors (time,batch,label), lengths, names, and the array for the error signal.

    Raises:
        BatchError: as the message says.
    """
    posteriors = np.asarray(log_posteriors)
    if posteriors.ndim != 3:
        raise BatchError(
            f"log_posteriors has the shape {posteriors.shape}; it has to be (time,batch,label) [batch-shapes]"
        )
    if not is_float(posteriors.dtype):
        raise BatchError(f"log_posteriors has the dtype {posteriors.dtype}; it has to be a float [dtype]")
    lengths, names = check_segments(posteriors.shape, seq_lengths, tags, labels)
    if out is None:
        out = np.empty(posteriors.shape, np.float32)
    elif not isinstance(out, np.ndarray) or out.shape != posteriors.shape or out.dtype != np.float32:
        given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise BatchError(
            f"out is {given}; it has to be a float32 array of the shape {posteriors.shape} [out-array]"
        )
    elif not out.flags.writeable:
        raise BatchError("out is read-only [out-array]")
    return posteriors, lengths, names, out


def check_segments(
    shape: Sequence[int], seq_lengths: Any, tags: Sequence[Any], labels: Optional[int]
) -> tuple[list[int], list[str]]:
    """Check the segments of a batch whose posteriors are of this shape, (time,batch,label).

    Returns:
        lengths and names.

    Raises:
        BatchError: as the message says.
    """
    lengths = np.asarray(seq_lengths)
    if lengths.dtype.kind not in "iu" and lengths.size:  # numpy takes [] for floats
        raise BatchError(f"seq_lengths has the dtype {lengths.dtype}; it has to be an integer [dtype]")
    frames, n_batch, n_labels = shape
    names = check_tags(tags)
    if lengths.shape != (n_batch,) or len(names) != n_batch:
        raise BatchError(
            f"log_posteriors has a batch of {n_batch}, seq_lengths the shape {lengths.shape}, "
            f"and there are {len(names)} tags: all three have to agree [batch-shapes]"
        )
    for index, (name, length) in enumerate(zip(names, lengths.tolist())):
        check_shape(name, length, n_labels, labels)
        if length > frames:
            raise BatchError(
                f"seq_lengths[{index}] is {length} (segment {name!r}), log_posteriors has {frames} frames"
                " [batch-shapes]"
            )
    return lengths.tolist(), names
