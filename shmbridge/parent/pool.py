"""The pool: what the user calls. Typed arguments in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Optional, Union

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..deprecation import accept_old_names
from ..errors import OptionError
from ..ring import Array, FloatArray
from .arguments import check_batch, check_posteriors, check_segments, decode_names
from .automata import Automata, request_automata
from .batch import BatchResult
from .copying import copy_checked, copy_out
from .in_place import SegmentClaim, claim_segment
from .lifecycle import OPEN
from .options import DEFAULT_RING_SIZE, Options, Unnormalized
from .returnn_options import accept_returnn_names, translate
from .scoring import ScoreFunction, serve
from .segment_request import CopyIn, CopyOut, run_segments
from .submitting_pool import SubmittingPool

_OLD_NAMES = {"tags": "segment_names"}


class SprintInstancePool(SubmittingPool):
    """Sprint children that share the segments of each batch.

    The longest segments go first, each to the child with the least to do. Use the pool as a context manager,
    or call `close`. It closes itself at the interpreter's exit, and when nothing refers to it any more.

    Thread-safety: several threads may use it; one call works at a time, the others wait. It belongs to the
    process that created it: in a fork, every call raises UsageError. `copy` and `deepcopy` return the pool
    itself. It cannot be pickled.

    Args:
        sprint_exec_path: Sprint's executable (nn-trainer, refsprint), or a command with leading arguments.
        sprint_config: more options for Sprint: a string, split as a shell splits words (no shell is started),
            or a list of str.
        sprint_control_config: more settings for the config string, such as {"verbose": True}.
        min_python_control_version: the oldest Sprint callback version that is accepted.
        use_python_segment_order: whether the trainer orders the segments. Set it to False only for Sprints
            that run python-control-loop-type=python-control-loop, or that recognise (`serve_scores`).
        num_instances: the number of children.
        ring_size: bytes of each of a child's two rings; the largest segment must fit.
        num_labels: the label dimension of the posteriors, if known: any other is an error at once.
        max_restarts: how often a segment is retried on another child after Sprint ended or hung while it
            computed it. 0: the first time is an error, and the next call restarts the child. serve_scores
            requires 0.
        skip_fatal_segments: with max_restarts, treat a segment as skipped (and log it) if Sprint ends at it
            each time; otherwise it is an error.
        max_batches_in_flight: how many batches may be submitted and not answered (`submit`).
        unnormalized_posteriors: if posteriors do not sum to 1 in the middle frame of a segment, as logits:
            "warn" logs it once, "error" raises BatchError, "allow" does not check.
        allow_zero_error_signal: accept a loss of exactly 0 with an error signal of zeros. By default it is a
            CriterionError, because a Sprint without a criterion returns these.
        skip_warning_share: log a warning if this share of the last 100 segments was skipped.
        segment_timeout: seconds that Sprint may work on one segment (serve_scores: between its requests)
            before it is ended; None for no limit.
        start_timeout: seconds until a starting child must have sent its hello.
        exit_timeout: seconds until a child that was asked to exit is killed.
        env: the environment of the children; None for that of this process. Two settings of glibc's malloc
            are added unless they are set (docs/architecture.md).

    Raises:
        OptionError: an option is unknown, missing or invalid; the executable does not exist or cannot run.
        ResourceError: shared memory, processes or descriptors ran out.
        PeerGoneError: a child ended before it was ready; the message has its last output.
        ProtocolError: a child has another version of shmbridge.
        BridgeTimeoutError: a child was not ready within start_timeout.
    """

    _max_instances: ClassVar[Optional[int]] = None

    @accept_returnn_names
    def __init__(
        self,
        sprint_exec_path: Union[str, Sequence[str]],
        sprint_config: Union[str, Sequence[str]] = (),
        *,
        sprint_control_config: Optional[Mapping[str, object]] = None,
        min_python_control_version: int = 2,
        use_python_segment_order: bool = True,
        num_instances: int = 1,
        ring_size: int = DEFAULT_RING_SIZE,
        num_labels: Optional[int] = None,
        max_restarts: int = 0,
        skip_fatal_segments: bool = False,
        max_batches_in_flight: int = 2,
        unnormalized_posteriors: Unnormalized = "warn",
        allow_zero_error_signal: bool = False,
        skip_warning_share: float = 0.1,
        segment_timeout: Optional[float] = None,
        start_timeout: float = 600.0,
        exit_timeout: float = 10.0,
        env: Optional[Mapping[str, str]] = None,
    ) -> None:
        options = Options(
            sprint_exec_path=sprint_exec_path,
            sprint_config=sprint_config,
            sprint_control_config=sprint_control_config,
            min_python_control_version=min_python_control_version,
            use_python_segment_order=use_python_segment_order,
            num_instances=num_instances,
            ring_size=ring_size,
            num_labels=num_labels,
            max_restarts=max_restarts,
            skip_fatal_segments=skip_fatal_segments,
            max_batches_in_flight=max_batches_in_flight,
            unnormalized_posteriors=unnormalized_posteriors,
            allow_zero_error_signal=allow_zero_error_signal,
            skip_warning_share=skip_warning_share,
            segment_timeout=segment_timeout,
            start_timeout=start_timeout,
            exit_timeout=exit_timeout,
            env=env,
        ).checked()
        if self._max_instances is not None and num_instances > self._max_instances:
            raise OptionError(
                f"num_instances is {num_instances}; {type(self).__name__} has one child: use "
                "SprintInstancePool for several [unknown-option]"
            )
        super().__init__(options)

    @classmethod
    def from_returnn(cls, sprint_opts: Mapping[str, Any]) -> SprintInstancePool:
        """Create a pool with the sprint_opts of a RETURNN config.

        Args:
            sprint_opts: under RETURNN's names and with its meaning: for example, sprintConfigStr may be a
                callable or "config:name". Options that RETURNN does not have may be mixed in.

        Raises:
            OptionError: an option is unknown, given twice or invalid; and the errors of the constructor.
        """
        return cls(**translate(sprint_opts))

    @accept_old_names(_OLD_NAMES)
    def get_batch_loss_and_error_signal(
        self,
        log_posteriors: ArrayLike,
        seq_lengths: Union[Array, Sequence[int]],
        segment_names: Union[Sequence[Any], Array],
        *,
        out: Optional[FloatArray] = None,
    ) -> BatchResult:
        """Return loss and error signal of a batch of segments.

        Args:
            log_posteriors: (time,batch,label), log space, any float dtype, any strides.
            seq_lengths: (batch,) frames of each segment, integers.
            segment_names: the full segment names, str or bytes. A segment may occur several times.
            out: receives the error signal, float32 (time,batch,label); None for a new array.

        Returns:
            A tuple of two: loss (batch,) float32, infinite for segments that Sprint skipped; and error signal
            (time,batch,label) float32, the gradient of the loss before the softmax (y - y_hat; Sprint's
            "error-signal"), zero beyond each length and for skipped segments. `skipped` (batch,) bool is an
            attribute.

        Raises:
            BatchError: the arguments do not agree, or a segment has no frames, a NaN or plus infinity.
            SegmentTooLargeError: a segment does not fit into a ring. Nothing was sent.
            RemoteError: Python code in Sprint raised, for instance because its corpus has no such segment.
            CriterionError: Sprint computes no criterion.
            PeerGoneError: a child ended. The next call restarts it.
            ClosedError: the pool was closed.
            ShmbridgeError: any of these; `failed` has the error of each segment, `partial` the other results.
        """
        with self._pool.lock:
            self._pool.check_open()
            posteriors, lengths, names, error_signal = check_batch(
                log_posteriors, seq_lengths, segment_names, out, self._pool.known_labels()
            )
            return run_segments(self._pool, posteriors, lengths, names, error_signal)

    def get_batch_loss(
        self,
        log_posteriors: ArrayLike,
        seq_lengths: Union[Array, Sequence[int]],
        segment_names: Union[Sequence[Any], Array],
    ) -> FloatArray:
        """Return the losses of a batch, (batch,) float32, infinite for segments that Sprint skipped.

        Sprint need not give error signals: the Python layer may be the top layer, the estimator a dummy.

        Arguments and errors are those of get_batch_loss_and_error_signal.
        """
        return self.run_batch(check_posteriors(log_posteriors), seq_lengths, segment_names, None)

    def run_batch(
        self,
        posteriors: Any,
        seq_lengths: Any,
        segment_names: Any,
        error_signal: Any,
        *,
        copy_in: CopyIn = copy_checked,
        copy_out: CopyOut = copy_out,
    ) -> FloatArray:
        """Like get_batch_loss_and_error_signal, for matrices that are not NumPy arrays. For shmbridge.torch.

        Args:
            posteriors: any object with a shape (time,batch,label) that supports [:frames, index].
            seq_lengths, segment_names: as in get_batch_loss_and_error_signal.
            error_signal: any object that supports [:, index]; None: it is not stored. [:frames] of that is
                passed to copy_out, and the rest is set to 0.
            copy_in, copy_out: see segment_request.CopyIn and CopyOut. Both are called in this thread.

        Result and errors are those of get_batch_loss.
        """
        with self._pool.lock:
            self._pool.check_open()
            known = self._pool.known_labels()
            lengths, names = check_segments(posteriors.shape, seq_lengths, segment_names, known)
            return run_segments(self._pool, posteriors, lengths, names, error_signal, copy_in, copy_out).loss

    @accept_old_names(_OLD_NAMES)
    def get_automata_for_batch(
        self, segment_names: Union[Sequence[Any], Array], *, dtype: DTypeLike = np.uint32
    ) -> Automata:
        """Return the allophone state automata of segments, combined into one.

        Args:
            segment_names: the full segment names. A segment may occur several times.
            dtype: uint32, as RETURNN has it, or int32, with which torch can compute.

        Returns:
            A tuple of three: edges (4,E): from, to, emission, sequence; weights (E,) float32;
            start_end_states (2,batch). The states of each sequence follow those of the one before.

        Raises:
            BatchError, RemoteError, PeerGoneError, ClosedError: as in get_batch_loss_and_error_signal.
        """
        with self._pool.lock:
            self._pool.check_open()
            return request_automata(self._pool, decode_names(segment_names), dtype)

    def claim(self, segment_name: Union[str, bytes], num_frames: int, num_labels: int) -> SegmentClaim:
        """Claim shared memory for the posteriors of a segment: write them, `send`, wait for the `result`.

        Block while the ring is full and Sprint has records left to release.

        Args:
            segment_name, num_frames, num_labels: the full segment name, and the shape.

        Raises:
            BatchError: the name or shape is invalid.
            SegmentTooLargeError: the segment does not fit into a ring.
            UsageError, BufferError: the ring is full of claims, or arrays, that the user holds.
            PeerGoneError, ClosedError: as in get_batch_loss_and_error_signal.
        """
        lock = self._pool.lock
        try:  # not `with`, which costs more
            lock.acquire()
            if self._pool.state is not OPEN:  # saves a call in the usual case
                self._pool.check_open()
            return claim_segment(self._pool, segment_name, num_frames, num_labels)
        finally:
            lock.release()

    def serve_scores(self, score: ScoreFunction) -> None:
        """Score features for children that recognise, or align, until all have ended.

        They request scores through a PythonFeatureScorer (docs/ways.md, "A recogniser"). Each call is one
        pass over the corpus: it restarts the children that have ended.

        Args:
            score: is called in this thread for each segment, with the features (time,dim) float32: a view of
                shared memory, which it must not keep. Returns the scores (time,label), any float dtype, any
                strides: negative logarithms, which Sprint uses as they are (with posteriors of a network:
                -log p(label|features) + scale * log prior(label)).

        Raises:
            Exception: what `score` raised. Sprint receives it as well, and ends.
            BatchError: `score` returned an invalid array, or a NaN. Sprint receives it as well.
            SegmentTooLargeError: the scores do not fit into the ring. Likewise.
            BufferError: features that `score` has kept leave no room for more.
            PeerGoneError: a child ended before its corpus was done, or not with exit code 0.
            SegmentTimeoutError: it neither requested scores nor ended within segment_timeout.
            UsageError: a child waits for segments; or a segment was claimed or sent, and is not answered.
            OptionError: max_restarts is not 0: a restarted child would begin its corpus again.
            ClosedError: the pool was closed.
        """
        with self._pool.lock:
            self._pool.check_open()
            serve(self._pool, score)


class SprintSubprocessInstance(SprintInstancePool):
    """A pool of one child. Options, errors and thread-safety are those of SprintInstancePool."""

    _max_instances = 1
