"""The pool: children that share a batch, and what the user calls."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

import numpy as np

from .._native import lib
from ..errors import OptionError, ProtocolError, UsageError, without_traceback
from ..memory import Memory
from ..ring import Array
from .automata import AutomatonJob, combine
from .batch import (
    Batch,
    CopyIn,
    CopyOut,
    Job,
    SegmentJob,
    check_batch,
    check_segments,
    check_shape,
    check_tag,
    check_tags,
)
from .dispatcher import Dispatcher
from .in_place import SegmentClaim
from .options import Options
from .scoring import ScoreFunction, serve
from .statistics import PoolStatistics
from .stuck import check_not_stuck

_POSTERIORS = lib.SHMB_POSTERIORS  # looked up once: this stands in what runs for each segment


class SprintInstancePool:
    """Sprint children that share the segments of each batch.

    The longest segments go first, each to the child that has the least to do. Use it as a context manager,
    or call `close`; at the interpreter's end, and when nothing refers to it any more, it closes itself.

    Thread-safety: may be used from several threads; one call works at a time, the others wait. After a
    fork, it belongs to the process that created it: in the other one every call raises UsageError.
    A copy, also a deep one of what holds it, is the same pool; it cannot be pickled.

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

    """

    def __init__(self, **options: Any) -> None:
        self._options = Options.parse(options)
        self._labels = self._options.num_labels
        self._dispatcher = Dispatcher(self._options)
        # Runs at close, when the pool is collected, or at the interpreter's end, whichever comes first.
        self._close = weakref.finalize(self, self._dispatcher.close)

    def stats(self) -> PoolStatistics:
        """What has crossed the bridge so far, and how the children are.

        Never waits: while another thread is in a call, its figures are those of that moment. May be called
        after `close`, which also logs it.

        Raises:
            UsageError: this process is a fork of the one to which the pool belongs.
        """
        return self._dispatcher.stats()

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
            (time,batch,label) float32, the gradient before the softmax (y - y_hat; Sprint's "error-signal"),
            zero beyond each length and for discarded segments.

        Raises:
            BatchError: the arguments do not fit together, there is a NaN or a segment without frames.
            SegmentTooLargeError: a segment does not fit into a ring. Nothing was sent.
            RemoteError: Python code in Sprint raised, for instance because it knows no such segment.
            PeerGoneError: a child has ended. It is started anew at the next call.
            ClosedError: the pool was closed.
        """
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            posteriors, lengths, names, error_signal = check_batch(
                log_posteriors, seq_lengths, tags, out, self._known_labels()
            )
            return self._run(posteriors, lengths, names, error_signal), error_signal

    def get_batch_loss(
        self,
        posteriors: Any,
        seq_lengths: Any,
        tags: Sequence[Any],
        error_signal: Any,
        *,
        copy_in: CopyIn,
        copy_out: CopyOut,
    ) -> Array:
        """Loss of a batch whose matrices are no numpy arrays. What shmbridge.torch stands on.

        Args:
            posteriors: anything that has a shape (time,batch,label) and takes [:frames, index].
            seq_lengths, tags: as in get_batch_loss_and_error_signal.
            error_signal: anything that takes [:, index], of which [:frames] is handed to copy_out and
                what is beyond is set to 0; None: it is not kept.
            copy_in: called with a claimed (time,label) float32 array and a segment of the posteriors: fills
                the one from the other; returns (time, label) of a NaN, or None.
            copy_out: called with a segment of error_signal and the (time,label) float32 array that Sprint's
                side wrote, whose place is given back when it returns. Both are called in the thread of this
                call, with a third argument: whether a core is idle that a second thread may copy on.

        Returns:
            loss (batch,) float32, infinite for segments that Sprint discarded.

        Raises:
            BatchError, SegmentTooLargeError, RemoteError, PeerGoneError, ClosedError: as in
                get_batch_loss_and_error_signal.
        """
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            lengths, names = check_segments(posteriors.shape, seq_lengths, tags, self._known_labels())
            return self._run(posteriors, lengths, names, error_signal, copy_in=copy_in, copy_out=copy_out)

    def _run(
        self, posteriors: Any, lengths: list[int], names: list[str], error_signal: Any, **copies: Any
    ) -> Array:
        """Hand out a batch that was checked, and wait for it. Hold the lock."""
        n_labels = posteriors.shape[2]
        self._dispatcher.start_dead_anew()
        self._dispatcher.least_loaded().channel.sender.check_size(
            max(lengths, default=0), n_labels, max((len(name.encode()) for name in names), default=0)
        )
        loss: Array = np.empty(len(names), np.float32)
        loss.fill(np.nan)
        batch = Batch(self._dispatcher.statistics, self._dispatcher.instances)
        jobs: list[Job] = [
            SegmentJob(
                batch,
                b,
                name,
                posteriors[:length, b],
                loss,
                None if error_signal is None else error_signal[:, b],
                **copies,
            )
            for b, (name, length) in enumerate(zip(names, lengths))
        ]
        jobs.sort(key=lambda job: job.rows, reverse=True)
        self._dispatcher.run(batch, jobs)
        batch.raise_first((loss, error_signal))
        if names:
            self._labels = n_labels
        return loss

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
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            batch = Batch(self._dispatcher.statistics, self._dispatcher.instances)
            jobs = [AutomatonJob(batch, name) for name in check_tags(tags)]
            self._dispatcher.run(batch, jobs)
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
            UsageError, BufferError: the ring is full of claims, or arrays, that the user holds.
            PeerGoneError, ClosedError: as in get_batch_loss_and_error_signal.
        """
        lock = self._dispatcher.lock  # not `with`: see SegmentClaim.send
        lock.acquire()
        try:
            self._dispatcher.check_usable()
            name, encoded = check_tag(tag)
            self._dispatcher.start_dead_anew()
            while True:
                self._dispatcher.send_rest()
                instance = self._dispatcher.least_loaded()
                check_shape(name, frames, labels, instance.labels or self._labels)
                try:
                    claim = instance.try_claim(_POSTERIORS, frames, labels, encoded)
                except ProtocolError:  # of a child that was ended for it
                    self._dispatcher.after_death(instance)
                    if instance.death is not None:
                        raise
                    continue
                if claim is not None:
                    return SegmentClaim(self._dispatcher, instance, name, claim)
                if not self._dispatcher.collect() and self._dispatcher.may_wait(check_not_stuck, instance):
                    self._dispatcher.wait(full=[instance])
                if instance.death is not None:
                    raise without_traceback(instance.death)
        finally:
            lock.release()

    def serve_scores(self, score: ScoreFunction) -> None:
        """Score features for Sprints that recognise, or align, until all have ended.

        They ask through a PythonFeatureScorer (docs/ways.md, "A recogniser"). Those that have ended since are
        started anew, and begin their corpus again; so each call is one pass over it.

        Args:
            score: called in this thread, for one segment after another, with the features (time,dim)
                float32: a view of the shared memory, which is to be let go of. Returns the scores
                (time,label), any float dtype, any strides: negative logarithms, which Sprint takes as they
                are (from a network's posteriors: -log p(label|features) + scale * log prior(label)).

        Raises:
            Exception: what `score` raised. Sprint gets it as well, and ends.
            BatchError: `score` returned something else, or a NaN. Likewise.
            SegmentTooLargeError: the scores do not fit into the ring. Likewise.
            BufferError: features that `score` has kept leave no room for more.
            PeerGoneError: a Sprint ended before its corpus was done: with a signal, or not with exit code 0.
                SegmentTimeoutError: it did not ask again, nor end, within segment_timeout.
            UsageError: a Sprint awaits segments; or posteriors that were claimed or sent are not answered.
            OptionError: with max_restarts, a Sprint that has ended would begin its corpus again.
            ClosedError: the pool was closed.
        """
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            if self._options.max_restarts > 0:
                raise OptionError(
                    f"the option max_restarts is {self._options.max_restarts}; serve_scores wants 0: a "
                    "Sprint that is started anew would begin its corpus again [no-restart]"
                )
            serve(self._dispatcher, score)

    @property
    def memories(self) -> list[Memory]:
        """The shared memory of each child that lives now, for those who make it known to a device."""
        with self._dispatcher.lock:
            self._dispatcher.check_usable()
            return [i.channel.memory for i in self._dispatcher.instances if i.death is None]

    def close(self) -> None:
        """End the children and free everything. Arrays that are held stay valid. May be called again.

        A call that another thread is in raises ClosedError there.
        """
        if self._dispatcher.foreign is None:
            self._dispatcher.stop()  # another thread may wait for Sprint, and hold the lock meanwhile
            with self._dispatcher.lock:
                self._close()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._dispatcher.closed

    def __enter__(self) -> SprintInstancePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self) -> SprintInstancePool:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> SprintInstancePool:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a pool cannot be pickled: its Sprints are children of this process; create a pool of its own in "
            "each process, and leave it out of what is saved, as torch's state_dict does [not-picklable]"
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.num_instances} children"
        return f"<{type(self).__name__} {self._options.sprint_exec_path!r}, {state}>"

    def _known_labels(self) -> Optional[int]:
        """The label dimension, as given, told by Sprint, or seen to work."""
        for instance in self._dispatcher.instances:
            if instance.labels is not None:
                return instance.labels
        return self._labels


class SprintSubprocessInstance(SprintInstancePool):
    """One Sprint child: a pool of one.

    Args, errors and thread-safety: those of SprintInstancePool.
    """

    def __init__(self, **options: Any) -> None:
        if options.get("num_instances", options.get("numInstances", 1)) != 1:
            raise OptionError(
                "a SprintSubprocessInstance is one child; use SprintInstancePool for several [unknown-option]"
            )
        super().__init__(**options)
