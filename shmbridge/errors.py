"""Every error that shmbridge raises.

    ShmbridgeError
    ├── UsageError                 the caller asked for something that is not possible (also a ValueError)
    │   ├── OptionError            an option, or a config string, is unknown, malformed or out of range
    │   ├── BatchError             posteriors, lengths or names that do not agree; NaN or +inf; zero frames
    │   ├── SegmentTooLargeError   the segment does not fit into the ring, however empty
    │   └── ClosedError            this side closed the pool or the channel
    ├── FileFormatError            a corpus, lexicon or Sprint config cannot be parsed: file and line
    ├── ResourceError              shared memory, descriptors or processes ran out (also an OSError)
    ├── PeerGoneError              the other process ended: exit code or signal, segment, last output
    │   └── SegmentTimeoutError    Sprint worked too long on a segment, and was ended (also a TimeoutError)
    ├── RemoteError                Python code in the other process raised: type, message, traceback
    ├── CriterionError             Sprint computes no criterion: loss 0, and an error signal of zeros
    ├── ProtocolError              the peer broke the protocol
    └── BridgeTimeoutError         the peer did not answer in time (also a TimeoutError)

The package raises one other error: BufferError, if a record is released while an array still views it.

Errors can be copied, and pickled by the user's own tools, such as multiprocessing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Optional, TypeVar

__all__ = [
    "BatchError",
    "BridgeTimeoutError",
    "ClosedError",
    "CriterionError",
    "FileFormatError",
    "OptionError",
    "PeerGoneError",
    "ProtocolError",
    "RemoteError",
    "ResourceError",
    "SegmentTimeoutError",
    "SegmentTooLargeError",
    "ShmbridgeError",
    "UsageError",
]


class ShmbridgeError(Exception):
    """The root of all errors of this package.

    Attributes:
        partial: the result of the segments of a batch that did not fail: loss (batch,) and error signal
            (time,batch,label). The loss of those that failed is NaN, their error signal undefined. None if
            the error is not that of a batch that was sent.
        failed: the error of each segment of the batch that failed, by segment name; else empty.
    """

    partial: Optional[tuple[Any, Any]] = None
    failed: Mapping[str, ShmbridgeError] = MappingProxyType({})

    def __reduce__(self) -> tuple[Any, ...]:
        """Restore the error from its message and attributes: a constructor takes other arguments."""
        return _restore, (type(self), self.args), self.__dict__


_Error = TypeVar("_Error", bound=ShmbridgeError)


def without_traceback(error: _Error) -> _Error:
    """Return a copy of `error` without its traceback.

    A stored traceback keeps the frames of the call alive, and with them the caller's arrays.
    """
    fresh = _restore(type(error), error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh


def _restore(kind: type[_Error], args: tuple[Any, ...]) -> _Error:
    """Return an error with these args, without a call of its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args  # OSError.__new__ leaves them to the constructor if there is one
    return error


class UsageError(ShmbridgeError, ValueError):
    """The caller asked for something that is not possible. Nothing was sent; the pool can be used."""


class OptionError(UsageError):
    """An option, or a value in a config string, is unknown, malformed or out of range."""


class BatchError(UsageError):
    """Posteriors, lengths or names that do not agree, a NaN or +inf, or a segment without frames."""


class SegmentTooLargeError(UsageError):
    """The segment does not fit into the ring, however empty the ring is."""


class ClosedError(UsageError):
    """This side closed the pool or the channel; it can no longer be used."""


class FileFormatError(ShmbridgeError):
    """A file cannot be parsed.

    Attributes:
        path: the file.
        line: the line, counted from 1; None for the file as a whole.
    """

    def __init__(self, path: str, line: Optional[int], problem: str) -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}")
        self.path = path
        self.line = line


class ResourceError(ShmbridgeError, OSError):
    """Shared memory, file descriptors, memory or processes ran out.

    The message names what was needed, what there is, and what to change.
    """


class PeerGoneError(ShmbridgeError):
    """The other process has ended, or closed its pipes.

    If this side closed the bridge, the error is a ClosedError instead.

    Attributes:
        exit_code: the exit code if the process exited by itself, else None.
        signal_name: the name of the signal that ended the process ("SIGSEGV"), else None.
        segments: the segments that were sent and not answered.
        last_output: the last lines that the process wrote. The message quotes at most 20 of them.
        reported: the lines of its latest report of an error, at most ten. The message quotes them first.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: Optional[int] = None,
        signal_name: Optional[str] = None,
        segments: Sequence[str] = (),
        last_output: Sequence[str] = (),
        reported: Sequence[str] = (),
    ) -> None:
        if segments:
            named = ", ".join(repr(segment) for segment in segments[:5])
            more = f" and {len(segments) - 5} more" if len(segments) > 5 else ""
            message += f"; not answered: {named}{more}"
        super().__init__(message + _output(reported, last_output))
        self.exit_code = exit_code
        self.signal_name = signal_name
        self.segments = tuple(segments)
        self.last_output = tuple(last_output)
        self.reported = tuple(reported)


class RemoteError(ShmbridgeError):
    """Python code in the other process raised an exception.

    Attributes:
        segment: the segment that Sprint computed, or None.
        remote_type: the name of the exception's type ("KeyError").
        remote_message: str() of the exception.
        remote_traceback: the formatted traceback of the other process.
    """

    def __init__(
        self,
        segment: Optional[str],
        remote_type: str,
        remote_message: str,
        remote_traceback: str,
        raised_by: str = "Sprint's Python",
    ) -> None:
        at = f" at segment {segment!r}" if segment is not None else ""
        super().__init__(
            f"{raised_by} raised {remote_type}{at}: {remote_message}\n"
            f"    remote traceback:\n{_indented(remote_traceback)}"
        )
        self.segment = segment
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback


class CriterionError(ShmbridgeError):
    """Sprint computes no criterion: it returned the loss 0 and an error signal of zeros.

    Attributes:
        reported: the lines of Sprint's output that report errors, at most ten.
    """

    def __init__(self, message: str, *, reported: Sequence[str] = ()) -> None:
        super().__init__(message + _quoted("Sprint reported", reported))
        self.reported = tuple(reported)


class ProtocolError(ShmbridgeError):
    """The peer broke the protocol, or uses another version of it."""


class BridgeTimeoutError(ShmbridgeError, TimeoutError):
    """The peer did not answer in time.

    Attributes:
        last_output, reported: as in PeerGoneError, if it was ended for that; else empty.
    """

    def __init__(
        self, message: str, *, last_output: Sequence[str] = (), reported: Sequence[str] = ()
    ) -> None:
        super().__init__(message + _output(reported, last_output))
        self.last_output = tuple(last_output)
        self.reported = tuple(reported)


class SegmentTimeoutError(PeerGoneError, BridgeTimeoutError):
    """Sprint worked on a segment for longer than segment_timeout, and was ended.

    If it could still react, its last output has the stacks of its Python threads.
    """


_QUOTED_LINES = 20


def _output(reported: Sequence[str], last_output: Sequence[str]) -> str:
    """Return the end of a message that quotes why a process ended, and its last lines."""
    shown = list(last_output)[-_QUOTED_LINES:]
    what = "its last output"
    if len(shown) < len(last_output):
        what += f" ({len(shown)} of the {len(last_output)} lines in last_output)"
    return _quoted("it reported", reported) + _quoted(what, shown)


def _quoted(what: str, lines: Sequence[str]) -> str:
    """Return the end of a message that quotes lines of Sprint's output."""
    if not lines:
        return ""
    return f"; {what}:\n" + "\n".join("    " + line for line in lines)


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines())
