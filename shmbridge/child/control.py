"""PythonControl: the object that Sprint calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Optional, Union

from ..errors import BatchError, UsageError
from ..ring import Array
from .callback import Callback, compute_criterion
from .link import ParentLink
from .output import detail, log_call
from .request import SegmentRequest
from .server import RequestServer


class PythonControl(RequestServer):
    """The calls that Sprint's PythonControl makes, and with them the answers to the parent's requests.

    docs/ways.md describes the four ways: `process_segment` with Sprint's callback; `init_segment`, a Python
    layer and `notify_segment_loss` in a trainer; `run_control_loop`; segment order alone.

    Sprint passes all arguments by keyword. `_newer` stands for keywords that a newer RASR may add.

    Thread-safety: Sprint calls from one thread.

    Attributes:
        instance: the PythonControl of this process, or None.
    """

    instance: ClassVar[Optional[PythonControl]] = None

    def __init__(
        self, c2p_fd: int, p2c_fd: int, config: Mapping[str, str], version_number: Optional[int]
    ) -> None:
        super().__init__(ParentLink(c2p_fd, p2c_fd, config, version_number))
        self._num_labels: Optional[int] = None

    @classmethod
    def create(
        cls, c2p_fd: int, p2c_fd: int, config: Mapping[str, str], version_number: Optional[int] = None
    ) -> PythonControl:
        """Return the instance of this process; the first call creates it. Arguments: see ParentLink."""
        if cls.instance is None:
            cls.instance = cls(c2p_fd, p2c_fd, config, version_number)
        return cls.instance

    def close(self) -> None:
        """Close the connection to the parent. May be called again."""
        self.link.close()
        if PythonControl.instance is self:
            PythonControl.instance = None

    def exit(self, **_newer: object) -> None:
        """Log the end of a part of Sprint. Each part that called `init` calls this when it is done."""
        log_call("exit")

    # --- Iterate the corpus: Sprint calls process_segment, which calls Sprint's callback.

    def init_processing(
        self, input_dim: Optional[int] = None, output_dim: Optional[int] = None, **_newer: object
    ) -> None:
        """Prepare for the corpus. Sprint calls this before the first `process_segment`.

        Args:
            input_dim: the dimension of the features; -1 if Sprint does not extract features. Not used.
            output_dim: the number of labels; -1 if Sprint does not extract alignments.

        Raises:
            UsageError: Sprint passed no callback, so nothing can be computed.
        """
        log_call(f"init_processing: input_dim {input_dim}, output_dim {output_dim}")
        if self.callback is None:
            raise UsageError(
                "Sprint iterates the corpus but passed no callback to init(); "
                "use a RASR whose PythonControl passes one [no-callback]"
            )
        if output_dim is not None and output_dim > 0:
            self.set_label_dimension(output_dim)

    def process_segment(
        self,
        name: str,
        orthography: Union[bytes, str, None] = None,
        speaker_name: Optional[str] = None,
        features: Optional[Array] = None,
        alignment: Optional[Array] = None,
        soft_alignment: Optional[tuple[Array, Array, Array]] = None,
        **_newer: object,
    ) -> None:
        """Compute the criterion of the current segment through Sprint's callback.

        Args:
            name: the full segment name.
            orthography: UTF-8 bytes with a trailing blank; None if the segment has none. str is accepted.
            speaker_name: None if the corpus names no speaker. Not used.
            features: (dim,time) float32; None if Sprint does not extract features. Not used.
            alignment: (time,) uint32 labels; None if Sprint does not extract alignments. Used if there is no
                orthography.
            soft_alignment: times uint32, labels uint32 and weights float32, each (n,); None unless Sprint has
                soft-alignments=true. Not used.

        Raises:
            UsageError: the parent did not request this segment: the corpus is not in our segment order.
        """
        segment = self._expect_segment(name, "process_segment")
        detail(f"process_segment {name!r}")
        segment.announced = True

        def compute(callback: Callback, segment: SegmentRequest) -> None:
            text = orthography.decode("utf-8") if isinstance(orthography, bytes) else orthography
            compute_criterion(callback, segment, orthography=text, alignment=alignment)

        self._call_sprint(segment, compute)

    # --- A trainer with PythonControl and a Python layer.

    def init_segment(self, segment_name: str, **_newer: object) -> None:
        """Note that Sprint's trainer works on a segment, before or just after it forwards the segment.

        Args:
            segment_name: the full segment name.

        Raises:
            UsageError: the parent did not request this segment.
        """
        detail(f"init_segment {segment_name!r}")
        self._expect_segment(segment_name, "init_segment").announced = True

    def notify_segment_loss(self, segment_name: Optional[str], loss: float, **_newer: object) -> None:
        """Store the loss that Sprint's trainer computed.

        Args:
            segment_name: the full segment name; None from FeedForwardTrainer.
            loss: the value of the criterion.

        Raises:
            UsageError: no segment is current, or it has another name.
        """
        detail(f"notify_segment_loss {segment_name!r}: {loss}")
        self.set_current_seg_loss(seg_name=segment_name, loss=loss)

    def get_current_seg_posteriors(self, seg_len: int, num_labels: Optional[int] = None) -> Array:
        """Return the posteriors of the current segment.

        Args:
            seg_len: the number of frames that Sprint expects.
            num_labels: the number of labels that Sprint expects, if known.

        Returns:
            (time,label) float32, log space; a view of the shared memory. If the parent sent another shape, it
            receives a BatchError, and these are uniform posteriors.

        Raises:
            UsageError: no segment is current.
        """
        segment = self._expect_segment(None, "get_current_seg_posteriors")
        if num_labels is None:
            num_labels = segment.posteriors.shape[1]
        return segment.posteriors_of_shape((seg_len, num_labels))

    def set_current_seg_error_signal(self, seg_len: int, error_signal: Array) -> None:
        """Store the error signal (time,label) of the current segment, which has seg_len frames.

        Raises:
            UsageError: no segment is current.
        """
        segment = self._expect_segment(None, "set_current_seg_error_signal")
        if error_signal.ndim != 2 or error_signal.shape[0] != seg_len:
            segment.fail(
                BatchError(
                    f"Sprint's error signal is {error_signal.shape}; "
                    f"it must be (time,label) with {seg_len} frames [shape-in-sprint]"
                )
            )
        segment.set_part(error_signal=error_signal)

    def set_current_seg_loss(self, seg_name: Optional[str], loss: float) -> None:
        """Store the loss of the current segment; `seg_name` may be None.

        Raises:
            UsageError: no segment is current, or it has another name.
        """
        self._expect_segment(seg_name, "set_current_seg_loss").set_part(loss=float(loss))

    # --- The control loop: Sprint does nothing but answer its callback.

    def run_control_loop(self, callback: Callback, **_newer: object) -> None:
        """Answer the parent's requests with Sprint's callback alone, until the connection ends.

        Args:
            callback: Sprint's, as in `init`.
        """
        log_call(f"run_control_loop: {callback('version')}")
        self.callback = callback
        self.serve_by_callback()

    # --- For the rest of shmbridge.child.

    def set_label_dimension(self, num_labels: int) -> None:
        """Send Sprint's number of labels to the parent, which rejects other posteriors from then on."""
        if num_labels != self._num_labels:
            self._num_labels = num_labels
            self.link.send("dimension", num_labels=num_labels)

    def _expect_segment(self, name: Optional[str], call: str) -> SegmentRequest:
        """Return the current segment; raise a UsageError if its name is not `name`. None matches any."""
        if self.current is None or name not in (None, self.current.name):
            requested = "none" if self.current is None else repr(self.current.name)
            raise UsageError(
                f"{call}: Sprint works on segment {name!r}, the parent requested {requested}; set "
                "python-segment-order=true for this corpus, and no buffer that holds several segments"
                " [corpus-order]"
            )
        return self.current
