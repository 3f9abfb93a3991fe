"""Requests of the parent and of other threads, answered with Sprint's help."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, Optional, TypeVar

from ..errors import BatchError, ProtocolError, UsageError
from ..ring import Array
from .callback import Callback, compute_criterion_by_name, export_automaton, no_callback
from .inbox import Inbox
from .link import ParentLink
from .output import detail
from .request import AutomatonRequest, LocalSegment, SegmentRequest, SprintParts


def _no_other_segment(name: str) -> UsageError:
    return UsageError(
        f"segment {name!r} follows itself, and the corpus has no other segment to pass in between; Sprint "
        "would reuse the alignments of its lattice: add a second segment to the corpus [same-segment]"
    )


_Request = TypeVar("_Request", SegmentRequest, AutomatonRequest)


class RequestServer:
    """Takes one request after another, and has Sprint compute its answer.

    Thread-safety: one thread, Sprint's, takes the requests. Any other may call `own_threaded_callback`.

    Args:
        link: the connection to the parent.

    Attributes:
        link: the connection to the parent.
        callback: Sprint's callback, or None until Sprint passes one.
        in_callback: whether Sprint is in its callback, called on behalf of a request.
        current: the segment that Sprint works on, or None.
        parts: the parts of Sprint that have called Python.
        keeps_last_segment: Sprint reuses alignments if one segment follows itself. Another one is passed in
            between.
    """

    Version = 1  # of the names and arguments that Sprint and users of this class see

    def __init__(self, link: ParentLink) -> None:
        self.link = link
        self.callback: Optional[Callback] = None
        self.in_callback = False
        self.current: Optional[SegmentRequest] = None
        self.parts = SprintParts.NONE
        self.keeps_last_segment = False
        self._inbox = Inbox(link)
        self._serving_thread: Optional[int] = None

    def segment_list_iterator(self, known: Optional[Collection[str]] = None) -> Iterator[str]:
        """Yield the names of the segments that the parent requests, until the connection ends.

        Sprint is done with a segment when it takes the next name. A segment that has no loss or no error
        signal by then is answered as skipped.

        Args:
            known: the names in the corpus. A request for any other name is answered with a KeyError. None
                accepts every name.
        """
        self.run_threaded_control_loop()
        self._serving_thread = threading.get_ident()
        last: Optional[str] = None
        answered = deque[str](maxlen=2)  # the two latest segments with a loss
        while True:
            request = self._inbox.take()
            if request is None:
                return
            if isinstance(request, AutomatonRequest):
                self._call_sprint(request, export_automaton)
                continue
            if known is not None and request.name not in known:
                request.fail(
                    KeyError(
                        f"the corpus that Sprint loaded has no segment {request.name!r} [unknown-segment]"
                    )
                )
                continue
            if self.keeps_last_segment and request.name == last:
                other = next((name for name in (*answered, *(known or ())) if name != request.name), None)
                if other is None:
                    request.fail(_no_other_segment(request.name))
                    continue
                self.current = LocalSegment.without_caller(other)
                yield other
            last = request.name
            self.current = request
            detail(f"segment order: {last!r}")
            yield last
            request.finish(self.parts)
            self.current = None
            if self.keeps_last_segment and request.loss is not None and last not in answered:
                answered.append(last)

    def serve_by_callback(self) -> None:
        """Answer all requests with Sprint's callback, until the parent ends the connection."""
        self.check_control_loop_running()
        self._serving_thread = threading.get_ident()
        while self._answer_next():
            pass

    def handle_next(self) -> bool:
        """Wait for the next request and answer it. Return False if the parent ended the connection."""
        self.run_threaded_control_loop()
        return self._answer_next()

    def check_control_loop_running(self) -> None:
        """Make sure that a thread reads the parent's control messages.

        Raises:
            ProtocolError: the connection is closed.
        """
        if self.link.closed:
            raise ProtocolError("the connection to the parent was closed [parent-gone]")
        self.run_threaded_control_loop()

    def run_threaded_control_loop(self) -> None:
        """Start the thread that reads the parent's control messages, unless it is running."""
        self.link.start_watching()

    # --- Requests from other threads of this process.

    def own_threaded_callback(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Call a command as Sprint's callback would, from a thread that is not Sprint's.

        Args:
            command: "version" or "get_loss_and_error_signal"; each is a method own_tcb_….
            args, kwargs: the method's.

        Raises:
            ValueError: the command is unknown.
        """
        method = getattr(self, f"own_tcb_{command}", None)
        if method is None:
            raise ValueError(
                f"unknown command {command!r}; it must be version or get_loss_and_error_signal [bad-call]"
            )
        return method(*args, **kwargs)

    def own_tcb_version(self) -> str:
        """Return name and version of this interface."""
        return f"<version>shmbridge.own_threaded_callback {self.Version}</version>"

    def own_tcb_get_loss_and_error_signal(
        self, seg_name: str, seg_len: int, posteriors: Array
    ) -> tuple[float, Array]:
        """Let Sprint's thread work on a segment, and wait for the result.

        Args:
            seg_name: the full segment name.
            seg_len: its number of frames.
            posteriors: (time,label) float32, log space.

        Returns:
            Loss and error signal (time,label); (inf, zeros) if Sprint skipped the segment.

        Raises:
            BatchError: the posteriors do not have seg_len frames.
            UsageError: the caller is Sprint's thread, which would wait for itself.
        """
        if threading.get_ident() == self._serving_thread:
            raise UsageError(
                "Sprint's thread would wait for itself; call this from another thread [own-thread]"
            )
        if posteriors.ndim != 2 or posteriors.shape[0] != seg_len:
            raise BatchError(
                f"the posteriors are {posteriors.shape}; "
                f"they must be (time,label) with {seg_len} frames [shape-in-sprint]"
            )
        segment = LocalSegment(seg_name, posteriors)
        self._inbox.put(segment)
        return segment.result()

    # --- Internals.

    def _answer_next(self) -> bool:
        request = self._inbox.take()
        if isinstance(request, AutomatonRequest):
            self._call_sprint(request, export_automaton)
        elif request is not None:
            self._call_sprint(request, compute_criterion_by_name)
            request.settle()
        return request is not None

    def _call_sprint(self, request: _Request, compute: Callable[[Callback, _Request], None]) -> None:
        """Call Sprint's callback for a request. An exception is the request's answer, and Sprint continues.

        The callback may call Python again: to find segments by name, RASR reads the whole corpus once, in the
        segment order, so it calls getSegmentList.
        """
        self.in_callback = True
        try:
            compute(self.callback or no_callback, request)
        except Exception as error:
            request.fail(error)
        finally:
            self.in_callback = False
