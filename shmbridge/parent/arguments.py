"""What the user gives to the pool, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np

from ..errors import BatchError
from ..ring import Array, FloatArray
from .copying import is_float

# Limits NumPy's exact check of unusual strides, which may take exponential time. Its stubs allow no int.
_OVERLAP_WORK: Any = 10_000


def decode_name(name: Any, index: Optional[int] = None) -> tuple[str, bytes]:
    """Return a segment name as str, and in UTF-8.

    Args:
        name: str, or bytes in UTF-8.
        index: its place in the batch, for the error.

    Raises:
        BatchError: the name is empty, of another type, or not UTF-8.
    """
    try:
        if type(name) is str and name:  # the usual case
            return name, name.encode("utf-8")
        decoded = name.decode("utf-8") if isinstance(name, bytes) else name
        if isinstance(decoded, str) and decoded:
            return str(decoded), decoded.encode("utf-8")  # not numpy.str_, whose repr names its type
        problem = "it must be a full segment name"
    except UnicodeError as error:
        problem = f"it must be UTF-8: {error}"
    where = "" if index is None else f" at index {index} of the batch"
    raise BatchError(f"the segment name{where} is {name!r}; {problem} [segment-names]")


def decode_names(names: Iterable[Any]) -> list[str]:
    """Return segment names as str. A name may occur several times.

    Raises:
        BatchError: `names` is not a sequence, or one of them is invalid.
    """
    if isinstance(names, (str, bytes)):
        raise BatchError(
            f"the segment names are {names!r}, a single name; they must be a sequence of names: [{names!r}]"
            " [segment-names]"
        )
    try:
        iterator = iter(names)
    except TypeError:
        raise BatchError(
            f"the segment names are {names!r}; they must be a sequence of full segment names [segment-names]"
        ) from None
    return [decode_name(name, index)[0] for index, name in enumerate(iterator)]


BatchArguments = tuple[Array, list[int], list[str], Array]
"""posteriors (time,batch,label), lengths, names, and the array for the error signal."""

KnownLabels = tuple[Optional[int], Optional[int], Optional[int]]
"""The number of labels that Sprint reported, of the option num_labels, and of the last batch."""


def check_shape(
    name: str,
    num_frames: int,
    num_labels: int,
    of_sprint: Optional[int],
    of_option: Optional[int],
    of_last_batch: Optional[int],
) -> None:
    """Raise BatchError if Sprint would abort at posteriors of this shape. The last three: see KnownLabels."""
    if num_frames < 1 or num_labels < 1:
        raise BatchError(
            f"segment {name!r} has {num_frames} frames x {num_labels} labels; both must be at least 1 "
            "[batch-shapes]"
        )
    expected = of_sprint or of_option or of_last_batch
    if expected is not None and num_labels != expected:
        if of_sprint is not None:
            source = f"Sprint's model has {expected}"
        elif of_option is not None:
            source = f"the option num_labels is {expected}; correct the one that is wrong"
        else:
            source = f"those of the last batch had {expected}"
        raise BatchError(f"the posteriors have {num_labels} labels; {source} [num-labels]")


def check_batch(
    log_posteriors: Any,
    seq_lengths: Any,
    segment_names: Iterable[Any],
    out: Optional[Array],
    known_labels: KnownLabels,
) -> BatchArguments:
    """Check the arguments of get_batch_loss_and_error_signal.

    Raises:
        BatchError: an argument is invalid.
    """
    posteriors = check_posteriors(log_posteriors)
    lengths, names = check_segments(posteriors.shape, seq_lengths, segment_names, known_labels)
    if out is None:
        out = np.empty(posteriors.shape, np.float32)
    elif not isinstance(out, np.ndarray) or out.shape != posteriors.shape or out.dtype != np.float32:
        given = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise BatchError(f"out is {given}; it must be a float32 array {posteriors.shape} [out-array]")
    elif not out.flags.writeable:
        raise BatchError("out is read-only; it must be writable [out-array]")
    elif _overlap_in_another_order(out, posteriors):
        raise BatchError(
            "out shares memory with log_posteriors in another order; it must be log_posteriors itself, or "
            "have memory of its own: it is written while some segments are not sent yet [out-array]"
        )
    return posteriors, lengths, names, out


def check_posteriors(log_posteriors: Any) -> Array:
    """Return the posteriors as an array (time,batch,label).

    Raises:
        BatchError: they have another shape, or are not floats.
    """
    posteriors = np.asarray(log_posteriors)
    if posteriors.ndim != 3:
        raise BatchError(
            f"log_posteriors has the shape {posteriors.shape}; it must be (time,batch,label) [batch-shapes]"
        )
    if not is_float(posteriors.dtype):
        raise BatchError(f"log_posteriors has the dtype {posteriors.dtype}; it must be a float [dtype]")
    return posteriors


def _overlap_in_another_order(out: Array, posteriors: Array) -> bool:
    """Return whether the arrays share memory, but not element by element. Both have the same shape."""
    if out.flags.owndata and posteriors.flags.owndata:  # saves the next call, which takes longer
        return False
    if not np.may_share_memory(out, posteriors):  # compares only the bounds
        return False
    strides = [(a, b) for a, b, size in zip(out.strides, posteriors.strides, out.shape) if size > 1]
    if (
        out.dtype == posteriors.dtype
        and all(a == b for a, b in strides)
        and out.ctypes.data == posteriors.ctypes.data
    ):
        return False
    try:
        return np.shares_memory(out, posteriors, max_work=_OVERLAP_WORK)
    except RuntimeError:  # TooHardError
        return True


def check_segments(
    shape: Sequence[int], seq_lengths: Any, segment_names: Iterable[Any], known_labels: KnownLabels
) -> tuple[list[int], list[str]]:
    """Check the segments of a batch whose posteriors have this shape, (time,batch,label).

    Returns:
        lengths and names.

    Raises:
        BatchError: an argument is invalid.
    """
    lengths = np.asarray(seq_lengths)
    if lengths.dtype.kind not in "iu" and lengths.size:  # an empty list becomes float64
        raise BatchError(f"seq_lengths has the dtype {lengths.dtype}; it must be an integer [dtype]")
    num_frames, batch_size, labels = shape
    names = decode_names(segment_names)
    if lengths.shape != (batch_size,) or len(names) != batch_size:
        advice = "all three must agree"
        if len(names) == num_frames and lengths.shape == (num_frames,):
            advice += (
                ". Time and batch seem to be swapped: transpose them to (time,batch,label), or correct "
                "batch_first of SprintLoss"
            )
        raise BatchError(
            f"log_posteriors has {num_frames} frames and a batch of {batch_size}, seq_lengths the shape "
            f"{lengths.shape}, and there are {len(names)} segment names; {advice} [batch-shapes]"
        )
    checked: list[int] = lengths.tolist()
    for index, (name, length) in enumerate(zip(names, checked)):
        check_shape(name, length, labels, *known_labels)
        if length > num_frames:
            raise BatchError(
                f"seq_lengths[{index}] is {length} (segment {name!r}); log_posteriors has {num_frames} frames"
                " [batch-shapes]"
            )
    return checked, names


def invalid_error(
    name: str, posteriors: FloatArray, place: tuple[int, int], index: Optional[int] = None
) -> BatchError:
    """Return the error for posteriors that are NaN or plus infinity at `place`, (time,label)."""
    value = "NaN" if np.isnan(posteriors[place]) else "+inf"
    where = "" if index is None else f" (index {index} of the batch)"
    return BatchError(
        f"the posteriors of segment {name!r}{where} are {value} at time {place[0]}, label {place[1]}; they "
        "must be finite or -inf [nan]"
    )
