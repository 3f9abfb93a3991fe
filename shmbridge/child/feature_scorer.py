"""PythonFeatureScorer: Sprint asks for the scores of features, and the parent's network answers."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from .. import protocol
from .._native import lib
from ..errors import PeerGoneError, ProtocolError, RemoteError, UsageError
from ..ring import Array, Record
from .link import ParentLink
from .output import detail, report

_FIRST_FRAMES = 1024  # room for so many at first; it is doubled when a segment has more
_NO_LIMIT = -1


class FeatureScorer:
    """What `init` returns to a part of Sprint that scores features (RASR's Nn/PythonFeatureScorer.cc).

    Sprint adds a segment's features one by one, has them computed when it first wants a score, and then
    asks for the scores of each frame, in any order and as often as it likes. `reset` marks the segment's end.

    Not thread-safe: Sprint calls it from one thread.

    Args:
        link: to the parent.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._labels = 0
        self._features: Array = np.empty((0, 0), np.float32)  # the first _frames rows are the segment's
        self._frames = 0
        self._sequence = 0
        self._scores: Optional[Array] = None  # (time,label); it alone keeps its record in the ring

    def init(self, input_dim: int, output_dim: int) -> None:
        """Called once, before anything else.

        Args:
            input_dim: the dimension of the features.
            output_dim: the number of labels (RASR: of emission classes) for which scores are wanted.
        """
        report(f"feature scorer: init, input_dim {input_dim}, output_dim {output_dim}")
        self._features = np.empty((_FIRST_FRAMES, input_dim), np.float32)
        self._labels = output_dim
        self._link.send("dimension", labels=output_dim)

    def get_feature_buffer_size(self) -> int:
        """How many frames Sprint may add before it has to ask for scores: -1, any number."""
        return _NO_LIMIT

    def add_feature(self, feature: Array, time: int) -> None:
        """Take the next frame of the segment.

        Args:
            feature: (input_dim,).
            time: its index, from 0.

        Raises:
            UsageError: it is not the next, or of another dimension.
        """
        if time != self._frames or feature.shape != self._features.shape[1:]:
            raise UsageError(
                f"Sprint adds a feature of shape {feature.shape} at time {time}; "
                f"{self._features.shape[1:]} at time {self._frames} has to come next [scorer-order]"
            )
        if time == len(self._features):
            larger = np.empty((2 * time, feature.shape[0]), np.float32)
            larger[:time] = self._features
            self._features = larger
        self._features[time] = feature
        self._frames = time + 1

    def reset(self, num_frames: int) -> None:
        """Forget features and scores: the segment of num_frames frames is done."""
        detail(f"feature scorer: reset, {num_frames} frames")
        self._frames = 0
        self._scores = None

    def compute(self, num_frames: int) -> None:
        """Have the parent compute the scores of all frames that were added since the last reset.

        Args:
            num_frames: how many Sprint has added.

        Raises:
            UsageError: there are none, or another number; or scores of an earlier segment are still held.
            SegmentTooLargeError: the features do not fit into the ring.
            RemoteError: the parent's score function raised.
            PeerGoneError: the parent ended the connection.
            ProtocolError: the parent sent what it must not.
        """
        detail(f"feature scorer: compute, {num_frames} frames")
        try:
            self._scores = self._ask(num_frames)
        except Exception as error:
            # Sprint prints this and exits; the parent is to know why without reading Sprint's output.
            self._link.send("exception", **protocol.describe_exception(error))
            raise

    def get_scores(self, time: int) -> Array:
        """The scores of a frame: (output_dim,) float32, -log space; a view of the shared memory.

        Raises:
            UsageError: nothing was computed, or not this frame.
        """
        if self._scores is None or not 0 <= time < len(self._scores):
            computed = 0 if self._scores is None else len(self._scores)
            raise UsageError(
                f"Sprint wants the scores at time {time}; {computed} frames were computed [scorer-order]"
            )
        row: Array = self._scores[time]
        return row

    def exit(self, **_kwargs: Any) -> None:
        """Called when Sprint is done with the scorer."""
        self._scores = None
        report("exit")

    # --- within

    def _ask(self, num_frames: int) -> Array:
        if num_frames < 1 or num_frames != self._frames:
            raise UsageError(
                f"Sprint wants {num_frames} frames computed; it has added {self._frames} [scorer-order]"
            )
        self._scores = None
        channel = self._link.channel
        if channel.receiver.used:  # the parent would wait for room, and nobody would make any
            raise UsageError(
                "Sprint still holds scores, or posteriors, that came earlier: it has to copy them"
                " [scores-held]"
            )
        self._sequence += 1
        claim = self._link.claim(
            lib.SHMB_FEATURES, num_frames, self._features.shape[1], sequence=self._sequence
        )
        if claim is not None:
            np.copyto(claim.matrix, self._features[:num_frames])
            claim.commit(lib.SHMB_ANSWERED, 0.0, self._labels)
        while not self._link.ended:
            record = channel.receiver.receive()
            if record is not None:
                return self._take(record)
            # Nobody else looks at the pipe: without this, the parent's end would not be noticed here.
            self._link.start_watching()
            channel.wait()
        raise PeerGoneError("the parent has ended the connection before the scores came [parent-gone]")

    def _take(self, record: Record) -> Array:
        if record.kind != lib.SHMB_SCORES or record.sequence != self._sequence:
            raise ProtocolError(
                f"the parent sent request {record.sequence} of kind {record.kind} where scores for request "
                f"{self._sequence} are awaited: a Sprint with a PythonFeatureScorer is served by serve_scores"
                " [serving]"
            )
        matrix = record.matrix
        if record.status == lib.SHMB_FAILED and matrix is not None and record.dtype == lib.SHMB_UINT8:
            texts = protocol.read_report(matrix.tobytes(), "the scores")
            raise RemoteError(None, *texts, raised_by="The trainer's score function")
        expected = (self._frames, self._labels)
        wrong = record.status != lib.SHMB_ANSWERED or record.dtype != lib.SHMB_FLOAT32
        if matrix is None or wrong or record.shape != expected:
            raise ProtocolError(
                f"the parent's scores are {record.shape} of dtype {record.dtype}, status {record.status}; "
                f"they have to be {expected} of dtype {lib.SHMB_FLOAT32} [bad-answer]"
            )
        return matrix
