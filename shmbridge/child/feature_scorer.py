"""PythonFeatureScorer: Sprint requests the scores of features, and the parent's network computes them."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import PeerGoneError, ProtocolError, RemoteError, UsageError
from ..ring import Array, Record
from .link import ParentLink
from .output import detail, log_call

_INITIAL_CAPACITY = 1024  # frames; doubled if a segment has more
_UNLIMITED = -1


class FeatureScorer:
    """The object that `init` returns to RASR's PythonFeatureScorer (Nn/PythonFeatureScorer.cc).

    Sprint adds the features of a segment one by one and calls `compute`. Then it reads the scores of each
    frame, in any order and any number of times. `reset` marks the end of the segment.

    Sprint passes all arguments by keyword. Not thread-safe: Sprint calls from one thread.

    Args:
        link: the connection to the parent.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._num_labels = 0
        self._features: Array = np.empty((0, 0), np.float32)  # the first _num_frames rows are the segment's
        self._num_frames = 0
        self._sequence = 0
        self._scores: Optional[Array] = None  # (time,label); this array alone keeps its record in the ring

    def init(self, input_dim: int, output_dim: int) -> None:
        """Store the dimensions. Sprint calls this once, before any other method.

        Args:
            input_dim: the dimension of the features.
            output_dim: the number of labels (RASR: of emission classes) that need scores.
        """
        log_call(f"feature scorer: init, input_dim {input_dim}, output_dim {output_dim}")
        self._features = np.empty((_INITIAL_CAPACITY, input_dim), np.float32)
        self._num_labels = output_dim
        self._link.send("dimension", num_labels=output_dim)

    def get_feature_buffer_size(self) -> int:
        """Return how many frames Sprint may add before it must call `compute`: -1, any number."""
        return _UNLIMITED

    def add_feature(self, feature: Array, time: int) -> None:
        """Append a frame to the segment.

        Args:
            feature: (input_dim,) float32.
            time: the frame's index, from 0.

        Raises:
            UsageError: the frame is not the next, or has another dimension.
        """
        if time != self._num_frames or feature.shape != self._features.shape[1:]:
            raise UsageError(
                f"Sprint added a feature of shape {feature.shape} at time {time}; "
                f"the next must have shape {self._features.shape[1:]}, at time {self._num_frames}"
                " [scorer-order]"
            )
        if time == len(self._features):
            larger = np.empty((2 * time, feature.shape[0]), np.float32)
            larger[:time] = self._features
            self._features = larger
        self._features[time] = feature
        self._num_frames = time + 1

    def reset(self, num_frames: int) -> None:
        """Discard features and scores: the segment of num_frames frames is complete."""
        detail(f"feature scorer: reset, {num_frames} frames")
        self._num_frames = 0
        self._scores = None

    def compute(self, num_frames: int) -> None:
        """Have the parent compute the scores of all frames since the last reset.

        Args:
            num_frames: the number of frames that Sprint has added.

        Raises:
            UsageError: there are no frames, or another number; or Sprint still holds earlier scores.
            SegmentTooLargeError: the features do not fit into the ring.
            RemoteError: the parent's score function raised an exception.
            PeerGoneError: the parent ended the connection.
            ProtocolError: the parent sent a record that the protocol does not allow.
        """
        detail(f"feature scorer: compute, {num_frames} frames")
        try:
            self._scores = self._request_scores(num_frames)
        except Exception as error:
            # Sprint prints the exception and exits. This message brings it to the parent as well.
            self._link.send("exception", **protocol.describe_exception(error))
            raise

    def get_scores(self, time: int) -> Array:
        """Return the scores of a frame: (output_dim,) float32, -log space; a view of the shared memory.

        Raises:
            UsageError: the scores of this frame were not computed.
        """
        if self._scores is None or not 0 <= time < len(self._scores):
            computed = 0 if self._scores is None else len(self._scores)
            raise UsageError(
                f"Sprint requested the scores at time {time}; {computed} frames were computed [scorer-order]"
            )
        row: Array = self._scores[time]
        return row

    def exit(self, **_newer: object) -> None:
        """Release the scores. Sprint calls this when it is done with the scorer."""
        self._scores = None
        log_call("exit")

    # --- Internals.

    def _request_scores(self, num_frames: int) -> Array:
        if num_frames < 1 or num_frames != self._num_frames:
            raise UsageError(
                f"Sprint requested scores for {num_frames} frames; it has added {self._num_frames}"
                " [scorer-order]"
            )
        self._scores = None
        channel = self._link.channel
        if channel.receiver.used:  # The parent might wait for room that Sprint never makes.
            raise UsageError(
                "Sprint still holds earlier scores or posteriors; it must copy them [scores-held]"
            )
        self._sequence += 1
        claim = self._link.claim(
            lib.SHMB_FEATURES, num_frames, self._features.shape[1], sequence=self._sequence
        )
        if claim is not None:
            np.copyto(claim.matrix, self._features[:num_frames])
            claim.commit(lib.SHMB_ANSWERED, 0.0, self._num_labels)
        while not self._link.ended:
            record = channel.receiver.receive()
            if record is not None:
                return self._validate_scores(record)
            # Nothing else reads the pipe: without this thread the wait would not see the parent's end.
            self._link.start_watching()
            channel.wait()
        raise PeerGoneError("the parent ended the connection before it sent the scores [parent-gone]")

    def _validate_scores(self, record: Record) -> Array:
        if record.kind != lib.SHMB_SCORES or record.sequence != self._sequence:
            raise ProtocolError(
                f"the parent sent request {record.sequence} of kind {record.kind}, but the child waits for "
                f"the scores of request {self._sequence}; serve a PythonFeatureScorer with serve_scores()"
                " [serving]"
            )
        matrix = record.matrix
        if record.status == lib.SHMB_FAILED and matrix is not None and record.dtype == lib.SHMB_UINT8:
            texts = protocol.read_report(matrix.tobytes(), "the scores")
            raise RemoteError(None, *texts, raised_by="The trainer's score function")
        expected = (self._num_frames, self._num_labels)
        is_valid = record.status == lib.SHMB_ANSWERED and record.dtype == lib.SHMB_FLOAT32
        if matrix is None or not is_valid or record.shape != expected:
            raise ProtocolError(
                f"the parent's scores are {record.shape} of dtype {record.dtype}, status {record.status}; "
                f"they must be {expected} of dtype {lib.SHMB_FLOAT32} [bad-answer]"
            )
        return matrix
