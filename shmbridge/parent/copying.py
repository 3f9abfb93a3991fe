"""Copy posteriors of any float dtype and stride into the ring, check them, copy error signals out of it."""

from __future__ import annotations

from typing import Optional

import numpy as np

from .. import _ring
from .._native import lib
from ..ring import Array

# NumPy converts the dtypes that C does not support (longdouble, other byte orders) in blocks of about this
# many bytes, which stay in cache.
_BLOCK_BYTES = 1 << 18

_FLOAT32, _NAN_INF = lib.SHMB_FLOAT32, lib.SHMB_CHECK_NAN_INF
_C_DTYPES = {
    np.dtype(np.float32): _FLOAT32,
    np.dtype(np.float64): lib.SHMB_FLOAT64,
    np.dtype(np.float16): lib.SHMB_FLOAT16,
}


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Return whether posteriors may have this dtype (bfloat16 is that of ml_dtypes)."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def copy_checked(
    target: Array, source: Array, second_thread: bool = False, check: int = _NAN_INF
) -> Optional[tuple[int, int]]:
    """Copy posteriors or scores (time,label) into a C-ordered float32 (time,label) array.

    Args:
        target: as claimed from a ring.
        source: of the same shape, any float dtype, any strides.
        second_thread: whether a second thread copies half of a large matrix.
        check: which values are invalid, as float32; an SHMB_CHECK_ constant.

    Returns:
        (time, label) of the first invalid value, at which the copy ended; None if there is none.
    """
    dtype = _C_DTYPES.get(source.dtype)
    if dtype is None and source.dtype.name == "bfloat16":
        return copy_bfloat16(target, source, second_thread, check)
    if dtype is not None:
        return _place(_ring.copy(target, source, dtype, check, second_thread), source)
    rows = max(1, _BLOCK_BYTES // (4 * max(1, source.shape[1])))
    for start in range(0, source.shape[0], rows):
        block = source[start : start + rows].astype(np.float32)
        invalid = _ring.copy(target[start : start + rows], block, _FLOAT32, check, False)
        if invalid is not None:
            return start + invalid // source.shape[1], invalid % source.shape[1]
    return None


def copy_bfloat16(
    target: Array, source: Array, second_thread: bool = False, check: int = _NAN_INF
) -> Optional[tuple[int, int]]:
    """Like copy_checked, for an array of any two-byte dtype whose bits are bfloat16."""
    return _place(_ring.copy(target, source, lib.SHMB_BFLOAT16, check, second_thread), source)


def copy_out(target: Array, source: Array, second_thread: bool = False) -> None:
    """Copy an error signal (time,label) out of the ring.

    Args:
        target: float32 of the same shape; any strides.
        source: as received: C-ordered float32.
        second_thread: as in copy_checked.
    """
    if target.strides[1] != target.itemsize or not target.flags.aligned:
        target[...] = source
    else:  # a NaN of Sprint's is for the user to see
        _ring.copy(target, source, _FLOAT32, lib.SHMB_CHECK_NOTHING, second_thread)


def find_invalid(array: Array) -> Optional[tuple[int, int]]:
    """Return (time, label) of the first NaN or plus infinity in a C-ordered float32 array, or None."""
    return _place(_ring.find_invalid(array), array)


def _place(index: Optional[int], array: Array) -> Optional[tuple[int, int]]:
    """Return the index as (time, label)."""
    return None if index is None else divmod(index, array.shape[1])
