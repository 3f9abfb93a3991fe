"""Posteriors of any float dtype and stride into the ring, looking for NaN; error signals out of it."""

from __future__ import annotations

import os
from typing import Optional

import numpy as np

from .._native import ffi, lib
from ..ring import Array

# Rows of dtypes that C does not know are converted in blocks of about this many bytes, which stay in cache.
_BLOCK_BYTES = 1 << 18

# A large matrix is copied by two threads: one core alone does not use all of the memory's bandwidth.
_TWO_THREADS = int(len(os.sched_getaffinity(0)) > 1)

_C_DTYPES = {np.dtype(np.float32): lib.SHMB_FLOAT32, np.dtype(np.float64): lib.SHMB_FLOAT64}


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether posteriors may be of this dtype (bfloat16 is ml_dtypes')."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def copy_checked(target: Array, source: Array) -> Optional[tuple[int, int]]:
    """Copy (time,label) posteriors into a C-ordered float32 (time,label) array.

    Args:
        target: as claimed from a ring.
        source: of the same shape, any float dtype, any strides.

    Returns:
        (time, label) of the first NaN, with which the copy ended; None where there is none.
    """
    dtype = _C_DTYPES.get(source.dtype)
    if dtype is not None and source.flags.aligned:
        return _copy_block(target, source, dtype)
    rows = max(1, _BLOCK_BYTES // (4 * max(1, source.shape[1])))
    for start in range(0, source.shape[0], rows):
        block = source[start : start + rows].astype(np.float32)
        nan = _copy_block(target[start : start + rows], block, lib.SHMB_FLOAT32)
        if nan is not None:
            return start + nan[0], nan[1]
    return None


def copy_out(target: Array, source: Array) -> None:
    """Copy an error signal (time,label) out of the ring.

    Args:
        target: float32 of the same shape; any strides.
        source: as received: C-ordered float32.
    """
    if target.strides[1] != target.itemsize or not target.flags.aligned:
        target[...] = source
    else:  # whatever NaN Sprint gives is for the user to see
        _copy_block(target, source, lib.SHMB_FLOAT32, look=False)


def find_nan(array: Array) -> Optional[tuple[int, int]]:
    """(time, label) of the first NaN in a C-ordered float32 array, or None."""
    index = lib.shmb_find_nan(ffi.cast("float *", _address(array)), array.size)
    return None if index < 0 else divmod(index, array.shape[1])


def _copy_block(target: Array, source: Array, dtype: int, look: bool = True) -> Optional[tuple[int, int]]:
    rows, columns = source.shape
    row_stride, column_stride = source.strides
    index = lib.shmb_copy(
        ffi.cast("float *", _address(target)),
        target.strides[0],
        ffi.cast("void *", _address(source)),
        dtype,
        rows,
        columns,
        row_stride,
        column_stride,
        look,
        _TWO_THREADS,
    )
    return None if index < 0 else divmod(index, columns)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
