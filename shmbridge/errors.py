"""Every error that shmbridge raises.

    ShmbridgeError
    ├── UsageError                 the caller asked for something that cannot be (also a ValueError)
    │   ├── OptionError            an option, or a config string, is unknown, malformed or out of range
    │   ├── BatchError             posteriors, lengths or tags that do not fit together; NaN; zero frames
    │   ├── SegmentTooLargeError   the segment does not fit into the ring, however empty
    │   └── ClosedError            the pool, instance or channel was closed by this side
    ├── FileFormatError            a corpus, lexicon or Sprint config that cannot be parsed: file and line
    ├── ResourceError              shared memory, descriptors or processes ran out (also an OSError)
    ├── PeerGoneError              the other process ended: exit code or signal, segment, last output
    │   └── SegmentTimeoutError    Sprint worked too long on a segment, and was ended (also a TimeoutError)
    ├── RemoteError                Python code in the other process raised: type, message, traceback
    ├── ProtocolError              the peer wrote something that the protocol does not allow
    └── BridgeTimeoutError         the peer did not answer in time (also a TimeoutError)

Beside these, only BufferError (a record is released while an array still views it) leaves the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, TypeVar

__all__ = [
    "BatchError",
    "BridgeTimeoutError",
    "ClosedError",
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
        partial: where `get_batch_loss_and_error_signal` raises because some segments of a batch failed: the
            loss (batch,) and error signal (time,batch,label) of the others. The loss of those that failed is
            NaN, their error signal undefined. Else None.
    """

    partial: Optional[tuple[Any, Any]] = None


_Error = TypeVar("_Error", bound=ShmbridgeError)


def without_traceback(error: _Error) -> _Error:
    """The same error without its traceback: to keep it, or to raise what is kept.

    A traceback has the frames of the call, and these the arrays that it was given. They would live as long as
    the error is kept; and where a frame leads back to the error, until the garbage collector comes by.
    """
    fresh = type(error).__new__(type(error))
    fresh.args = error.args
    fresh.__dict__.update(error.__dict__)
    return fresh


class UsageError(ShmbridgeError, ValueError):
    """The caller asked for something that cannot be. Nothing was sent; the pool goes on."""


class OptionError(UsageError):
    """An option, or a value in a config string, is unknown, malformed or out of range."""


class BatchError(UsageError):
    """Posteriors, lengths or tags that do not fit together, a NaN, or a segment without frames."""


class SegmentTooLargeError(UsageError):
    """The segment does not fit into the ring, however empty the ring is."""


class ClosedError(UsageError):
    """The pool, instance or channel was closed by this side and cannot be used any more."""


class FileFormatError(ShmbridgeError):
    """A file cannot be parsed.

    Attributes:
        path: the file.
        line: the line in it, counted from 1; None where the file as a whole is meant.
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

    Not raised when this side closed the bridge: that is ClosedError.

    Attributes:
        exit_code: the exit code where the process exited by itself, else None.
        signal_name: the name of the signal that ended the process ("SIGSEGV"), else None.
        segments: the segments that had been sent and not been answered.
        last_output: the last lines that the process wrote.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: Optional[int] = None,
        signal_name: Optional[str] = None,
        segments: Sequence[str] = (),
        last_output: Sequence[str] = (),
    ) -> None:
        if segments:
            named = ", ".join(repr(segment) for segment in segments[:5])
            more = f" and {len(segments) - 5} more" if len(segments) > 5 else ""
            message += f"; not answered: {named}{more}"
        super().__init__(message + _with_output(last_output))
        self.exit_code = exit_code
        self.signal_name = signal_name
        self.segments = tuple(segments)
        self.last_output = tuple(last_output)


class RemoteError(ShmbridgeError):
    """Python code in the other process raised an exception.

    Attributes:
        segment: the segment at which it happened, or None.
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


class ProtocolError(ShmbridgeError):
    """The peer wrote something that the protocol does not allow, or speaks another version of it."""


class BridgeTimeoutError(ShmbridgeError, TimeoutError):
    """The peer did not answer in time.

    Attributes:
        last_output: the last lines that it wrote, where it was ended for that; else empty.
    """

    def __init__(self, message: str, *, last_output: Sequence[str] = ()) -> None:
        super().__init__(message + _with_output(last_output))
        self.last_output = tuple(last_output)


class SegmentTimeoutError(PeerGoneError, BridgeTimeoutError):
    """Sprint worked on a segment for longer than segment_timeout, and was ended.

    Where it could still be asked, its last output has the stacks of its Python threads.
    """


def _with_output(last_output: Sequence[str]) -> str:
    """What an error says of the process's last lines."""
    if not last_output:
        return ""
    return "; its last output:\n" + "\n".join("    " + line for line in last_output)


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.rstrip().splitlines())
