"""PythonControl: the object that Sprint calls, and that serves the parent's requests through it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar, Optional, TypeVar, Union

import numpy as np

from .. import config as config_strings
from .. import protocol
from ..errors import BatchError, OptionError, ProtocolError, UsageError
from ..ring import Array
from . import criterion
from .criterion import Callback
from .feature_scorer import FeatureScorer
from .inbox import Inbox
from .link import ParentLink
from .output import Verbosity, detail, report, warn
from .request import AutomatonRequest, LocalSegment, SegmentRequest

_Asked = TypeVar("_Asked", SegmentRequest, AutomatonRequest)

_NEEDED_BY = "shmbridge's side of Sprint"
_FEATURE_SCORER = "PythonFeatureScorer"  # RASR's name of that unit


def init(
    name: str, reference: object, config: str, sprint_unit: Optional[str] = None, **more: Any
) -> Union[PythonControl, FeatureScorer]:
    """Called by Sprint's PythonControl. Arguments and errors are those of `connect`.

    Returns:
        The one PythonControl of this process; for the unit PythonFeatureScorer, a scorer on its connection.
    """
    control = connect(name, reference, config, sprint_unit, **more)
    return FeatureScorer(control.link) if sprint_unit == _FEATURE_SCORER else control


def connect(
    name: str,
    reference: object,
    config: str,
    sprint_unit: Optional[str] = None,
    version_number: Optional[int] = None,
    callback: Optional[Callback] = None,
    **kwargs: Any,
) -> PythonControl:
    """Open the connection to the parent at the first call: Sprint's, or ours where it calls something else.

    Args:
        name: who calls: "Sprint.PythonControl", or one of ours.
        reference: an opaque object that tells callers of one name apart.
        config: the config string, `key:value,…`: c2p_fd, p2c_fd, shm_fd, bell_fd, parent_pidfd,
            minPythonControlVersion, quiet, verbose.
        sprint_unit: the part of Sprint that calls ("NnTrainer.pythonControl", "FeedForwardTrainer", …).
        version_number: Sprint's callback version.
        callback: Sprint's callback (see RASR's Nn/PythonControl.cc).
        kwargs: whatever later Sprints add.

    Returns:
        The one PythonControl of this process.

    Raises:
        OptionError: the config string is malformed or incomplete, or Sprint is older than it demands.
        ProtocolError: the parent speaks another version.
    """
    settings = config_strings.parse(config)
    Verbosity.quiet = Verbosity.quiet or config_strings.get_bool(settings, "quiet")
    Verbosity.verbose = Verbosity.verbose or config_strings.get_bool(settings, "verbose")
    report(f"init: name {name!r}, sprint_unit {sprint_unit!r}, version_number {version_number!r}")
    c2p_fd = config_strings.get_int(settings, "c2p_fd", _NEEDED_BY)
    try:
        return PythonControl.create(
            c2p_fd=c2p_fd,
            p2c_fd=config_strings.get_int(settings, "p2c_fd", _NEEDED_BY),
            name=name,
            reference=reference,
            config=settings,
            sprint_unit=sprint_unit,
            version_number=version_number,
            min_version_number=config_strings.get_int(settings, "minPythonControlVersion", _NEEDED_BY),
            callback=callback,
            **kwargs,
        )
    except Exception as error:
        # Sprint prints this and exits; the parent is to know why without reading Sprint's output.
        with contextlib.suppress(OSError, OverflowError):  # the latter: a number too large for a descriptor
            protocol.send(c2p_fd, "exception", **protocol.describe_exception(error))
        raise


class PythonControl:
    """Serves the parent's requests through whichever calls Sprint makes.

    The four ways (docs/ways.md): `process_segment` with Sprint's callback; `init_segment`, a Python layer
    and `notify_segment_loss` in a trainer; `run_control_loop`; segment order alone.

    Thread-safety: Sprint calls from its main thread; `own_threaded_callback` may be called from any other.

    Attributes:
        instance: the one of this process, or None.
        callback: Sprint's callback, where it gave one.
        asking_sprint: Sprint is answering its callback just now, on our behalf.
        current: the segment that Sprint works on, or None.
    """

    Version = 1  # of the names and arguments that Sprint and users of this class see
    instance: ClassVar[Optional[PythonControl]] = None

    def __init__(
        self, c2p_fd: int, p2c_fd: int, config: Mapping[str, str], version_number: Optional[int]
    ) -> None:
        self.link = ParentLink(c2p_fd, p2c_fd, config, version_number)
        self.callback: Optional[Callback] = None
        self.asking_sprint = False
        self.current: Optional[SegmentRequest] = None
        self._inbox = Inbox(self.link)
        self._labels: Optional[int] = None
        self._serving_thread: Optional[int] = None

    @classmethod
    def create(
        cls,
        c2p_fd: int,
        p2c_fd: int,
        name: str,
        config: Mapping[str, str],
        version_number: Optional[int] = None,
        min_version_number: int = 0,
        callback: Optional[Callback] = None,
        **_kwargs: Any,
    ) -> PythonControl:
        """The one instance, made at the first call; later calls only add what they bring.

        Raises:
            OptionError: a Sprint.PythonControl that is older than min_version_number calls.
        """
        if name == "Sprint.PythonControl" and (version_number or 0) < min_version_number:
            raise OptionError(
                f"this Sprint's PythonControl has version {version_number}, at least {min_version_number} "
                "is needed (minPythonControlVersion): use a newer Sprint, or lower the option if it will do"
                " [versions]"
            )
        if cls.instance is None:
            cls.instance = cls(c2p_fd, p2c_fd, config, version_number)
        if callback is not None:
            cls.instance.callback = callback
        return cls.instance

    def close(self) -> None:
        """Close the connection to the parent. May be called again."""
        self.link.close()
        if PythonControl.instance is self:
            PythonControl.instance = None

    # --- iterate-corpus: Sprint calls process_segment, we call back

    def init_processing(
        self, input_dim: Optional[int] = None, output_dim: Optional[int] = None, **_kwargs: Any
    ) -> None:
        """Called before the first process_segment; the dimensions are -1 where nothing is extracted.

        Raises:
            UsageError: Sprint gave no callback, so that nothing could be calculated.
        """
        report(f"init_processing: input_dim {input_dim}, output_dim {output_dim}")
        if self.callback is None:
            raise UsageError(
                "Sprint iterates the corpus but gave init() no callback to calculate with [no-callback]"
            )
        if output_dim is not None and output_dim > 0:
            self.set_label_dimension(output_dim)

    def process_segment(
        self,
        name: str,
        orthography: Optional[bytes] = None,
        alignment: Optional[Array] = None,
        **_kwargs: Any,
    ) -> None:
        """Calculate the criterion of the segment that the parent asked for, through Sprint's callback.

        Args:
            name: full segment name.
            orthography: UTF-8 bytes with a trailing blank, or str; None where the segment has none.
            alignment: where Sprint extracts alignments.
            _kwargs: speaker_name, features, soft_alignment: not used.

        Raises:
            UsageError: the parent did not ask for this segment: the corpus is not in our segment order.
        """
        segment = self._segment_of(name, "process_segment")
        detail(f"process_segment {name!r}")
        segment.notified = True

        def compute(callback: Callback, segment: SegmentRequest) -> None:
            text = orthography.decode("utf-8") if isinstance(orthography, bytes) else orthography
            criterion.compute(callback, segment, orthography=text, alignment=alignment)

        self._ask_sprint(segment, compute)

    # --- a trainer with PythonControl and a Python layer

    def init_segment(self, segment_name: str) -> None:
        """Called by FeedForwardTrainer and SegmentwiseNnTrainer before they forward a segment.

        Raises:
            UsageError: the parent did not ask for this segment.
        """
        detail(f"init_segment {segment_name!r}")
        self._segment_of(segment_name, "init_segment").notified = True

    def notify_segment_loss(self, segment_name: Optional[str], loss: float) -> None:
        """Called by the trainers when the criterion is known. FeedForwardTrainer names no segment (None)."""
        detail(f"notify_segment_loss {segment_name!r}: {loss}")
        self.set_current_seg_loss(seg_name=segment_name, loss=loss)

    def get_current_seg_posteriors(self, seg_len: int, labels: Optional[int] = None) -> Array:
        """The posteriors that Sprint is to take for the current segment.

        Args:
            seg_len: the number of frames that Sprint expects.
            labels: the number of labels that it expects, where known.

        Returns:
            (time,label) float32, log space; a view of the shared memory. Where the parent's do not have
            the expected shape, the parent gets that as an error, and these are uniform.

        Raises:
            UsageError: there is no current segment.
        """
        segment = self._segment_of(None, "get_current_seg_posteriors")
        segment.expect_answer()
        shape = segment.posteriors.shape
        expected = (seg_len, shape[1] if labels is None else labels)
        if shape == expected:
            return segment.posteriors
        segment.fail(
            BatchError(
                f"the posteriors are {shape} (time,label), Sprint expects {expected} for this segment"
                " [shape-in-sprint]"
            )
        )
        return np.full(expected, -np.log(expected[1]), np.float32)

    def set_current_seg_error_signal(self, seg_len: int, error_signal: Array) -> None:
        """Take the error signal (time,label) of the current segment, which has seg_len frames.

        Raises:
            UsageError: there is no current segment.
        """
        segment = self._segment_of(None, "set_current_seg_error_signal")
        if error_signal.ndim != 2 or error_signal.shape[0] != seg_len:
            segment.fail(
                BatchError(
                    f"Sprint's error signal is {error_signal.shape} for {seg_len} frames [shape-in-sprint]"
                )
            )
        segment.give(error_signal=error_signal)

    def set_current_seg_loss(self, seg_name: Optional[str], loss: float) -> None:
        """Take the loss of the current segment; `seg_name` may be None.

        Raises:
            UsageError: there is no current segment, or it is another.
        """
        self._segment_of(seg_name, "set_current_seg_loss").give(loss=float(loss))

    def segment_list_iterator(self, known: Optional[Collection[str]] = None) -> Iterator[str]:
        """Yield the names of the segments that are asked for, until the parent wants no more.

        When Sprint comes back for the next name, it is done with the last one; if it has given no loss and
        error signal for that until then, the segment is answered as skipped.

        Args:
            known: the names in the corpus; any other is answered with a KeyError. None: all are good.
        """
        self.run_threaded_control_loop()
        self._serving_thread = threading.get_ident()
        while True:
            request = self._inbox.take()
            if request is None:
                return
            if isinstance(request, AutomatonRequest):
                self._ask_sprint(request, _export_automaton)
                continue
            if known is not None and request.name not in known:
                request.fail(
                    KeyError(
                        f"the corpus that Sprint loaded has no segment {request.name!r} [unknown-segment]"
                    )
                )
                continue
            self.current = request
            detail(f"segment order: {request.name!r}")
            yield request.name
            self._finish(request)
            self.current = None

    # --- the control loop, in which Sprint does nothing but answer its callback

    def run_control_loop(self, callback: Callback, **_kwargs: Any) -> None:
        """Serve the parent's requests with Sprint's callback alone, until the parent wants no more.

        Args:
            callback: Sprint's (or `own_threaded_callback`).
        """
        report(f"run_control_loop: {callback('version')}")
        self.callback = callback
        self.check_control_loop_running()
        self._serving_thread = threading.get_ident()
        while self._serve_next():
            pass

    def handle_next(self) -> bool:
        """Wait for the parent's next request and answer it. False: the parent wants no more."""
        self.run_threaded_control_loop()
        return self._serve_next()

    def _serve_next(self) -> bool:
        request = self._inbox.take()
        if request is None:
            return False
        if isinstance(request, AutomatonRequest):
            self._ask_sprint(request, _export_automaton)
            return True
        self._ask_sprint(request, _compute_by_name)
        return True

    def exit(self, **_kwargs: Any) -> None:
        """Called by each part of Sprint that had called init, when it is done."""
        report("exit")

    # --- the thread that listens to the parent while Sprint iterates

    def check_control_loop_running(self) -> None:
        """Make sure that somebody listens to the parent's control messages.

        Raises:
            ProtocolError: the connection has been closed.
        """
        if self.link.closed:
            raise ProtocolError("the connection to the parent was closed [parent-gone]")
        self.run_threaded_control_loop()

    def run_threaded_control_loop(self) -> None:
        """Start the thread that listens to the parent's control messages, unless it runs already."""
        self.link.start_watching()

    def own_threaded_callback(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """A callback like Sprint's, for threads of this process, where Sprint itself iterates segments.

        Args:
            command: "version" or "get_loss_and_error_signal"; each is a method own_tcb_….
            args, kwargs: the method's.

        Raises:
            ValueError: an unknown command.
        """
        method = getattr(self, f"own_tcb_{command}", None)
        if method is None:
            raise ValueError(
                f"unknown command {command!r}; there are version, get_loss_and_error_signal [bad-call]"
            )
        return method(*args, **kwargs)

    def own_tcb_version(self) -> str:
        """What answers here."""
        return f"<version>shmbridge.own_threaded_callback {self.Version}</version>"

    def own_tcb_get_loss_and_error_signal(
        self, seg_name: str, seg_len: int, posteriors: Array
    ) -> tuple[float, Array]:
        """Have Sprint's thread work on a segment, and wait for it.

        Args:
            seg_name: full segment name.
            seg_len: its number of frames.
            posteriors: (time,label) float32, log space.

        Returns:
            Loss and error signal (time,label); (inf, zeros) where Sprint skipped the segment.

        Raises:
            BatchError: the posteriors do not have seg_len frames.
            UsageError: called from the thread that serves: it would wait for itself.
        """
        if threading.get_ident() == self._serving_thread:
            raise UsageError(
                "Sprint's own thread cannot wait for itself: call this from another thread [own-thread]"
            )
        if posteriors.ndim != 2 or posteriors.shape[0] != seg_len:
            raise BatchError(
                f"the posteriors are {posteriors.shape} (time,label) for {seg_len} frames [shape-in-sprint]"
            )
        segment = LocalSegment(seg_name, posteriors)
        self._inbox.put(segment)
        return segment.result()

    # --- within

    def set_label_dimension(self, labels: int) -> None:
        """Sprint has told the number of its labels: the parent refuses other posteriors from now on."""
        if labels != self._labels:
            self._labels = labels
            self.link.send("dimension", labels=labels)

    def _segment_of(self, name: Optional[str], call: str) -> SegmentRequest:
        """The current segment, which has to be the named one."""
        if self.current is None or name not in (None, self.current.name):
            asked = "none" if self.current is None else repr(self.current.name)
            raise UsageError(
                f"{call}: Sprint is at segment {name!r}, the parent asked for {asked}: set "
                "python-segment-order=true for this corpus, and no buffer that holds several segments"
                " [corpus-order]"
            )
        return self.current

    def _ask_sprint(self, request: _Asked, ask: Callable[[Callback, _Asked], None]) -> None:
        """Have Sprint's callback asked: what is raised is the request's answer, and Sprint goes on.

        Meanwhile Sprint may call us: to answer what is asked by segment name, it first reads the whole corpus
        once, in the segment order. It calls getSegmentList again, from within the callback.
        """
        self.asking_sprint = True
        try:
            ask(self.callback or _no_callback, request)
        except Exception as error:
            request.fail(error)
        finally:
            self.asking_sprint = False

    def _finish(self, segment: SegmentRequest) -> None:
        """Sprint is done with the segment: if it gave no error signal, say so to log and parent."""
        if segment.answered:
            return
        warn(f"segment {segment.name!r}: Sprint gave no error signal; answered as skipped [skipped]")
        if not segment.notified:
            warn(
                f"segment {segment.name!r}: no segment notification: "
                "is PythonControl enabled in Sprint's trainer? [segment-order]"
            )
        if not segment.asked:
            warn(
                f"segment {segment.name!r}: not asked for posteriors: "
                "does Sprint's network have the Python layer? [segment-order]"
            )
        segment.skip()


def _compute_by_name(callback: Callback, segment: SegmentRequest) -> None:
    orthography = callback("get_orthography_by_segment_name", segment_name=segment.name)
    criterion.compute(callback, segment, orthography=orthography)


def _export_automaton(callback: Callback, request: AutomatonRequest) -> None:
    request.answer(*callback("export_allophone_state_fsa_by_segment_name", segment_name=request.name))


def _no_callback(command: str, **_arguments: object) -> Any:
    raise UsageError(
        "this Sprint gave no callback; enable python-control, or use a Python layer "
        f"(it was to be asked for {command}) [no-callback]"
    )
