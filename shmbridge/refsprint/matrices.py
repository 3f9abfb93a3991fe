"""Matrices across the border between Sprint and Python.

Sprint's matrices are (dimension, time), column after column: Fortran order in numpy's words. To Python
they go as a newly allocated float32 array that is filled with one memcpy; from Python comes any
well-behaved float32 or float64 matrix.
"""

from __future__ import annotations

import contextvars
import ctypes
from collections.abc import Callable
from typing import Any, Optional, TypeVar

import numpy as np
import numpy.typing as npt

from .console import CriticalError

__all__ = ["Matrix", "Scratch", "from_python", "outside_of_handlers", "to_python", "vector_from_python"]

Matrix = npt.NDArray[np.float32]
_T = TypeVar("_T")

# PyDLL, unlike CDLL and unlike numpy, keeps the GIL: no other thread runs while Sprint copies.
_memcpy = ctypes.PyDLL(None).memcpy
_memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcpy.restype = ctypes.c_void_p


def to_python(matrix: Matrix) -> Matrix:
    """A new float32 array (dimension, time) in Fortran order with the contents of `matrix`."""
    array = np.empty(matrix.shape, dtype=np.float32, order="F")
    if matrix.flags.f_contiguous and matrix.dtype == np.float32:
        _memcpy(array.ctypes.data, matrix.ctypes.data, array.nbytes)
    else:
        np.copyto(array, matrix)
    return array


def from_python(value: Any, what: str) -> Matrix:
    """Check that Sprint would take `value` for a matrix, and return it as float32 in Fortran order.

    The result is `value` itself where it is like that already.

    Errors:
        CriticalError: not an array, not two-dimensional, neither float32 nor float64, or not aligned
            and in native byte order.
    """
    _check(value, 2, what)
    matrix: Matrix = np.asarray(value, dtype=np.float32, order="F")
    return matrix


def vector_from_python(value: Any, what: str) -> npt.NDArray[np.floating]:
    """As from_python, for one dimension. Sprint accepts only floats, even where it wants indices."""
    _check(value, 1, what)
    vector: npt.NDArray[np.floating] = value
    return vector


def outside_of_handlers(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call `function` in an empty context, so that its arrays come from numpy's own allocator.

    Python code may install a handler that catches the array that Sprint allocates for it
    (PyDataMem_SetHandler, NEP 49). In Sprint that array is the only one that numpy allocates; what
    refsprint computes with must not be caught. numpy keeps the handler in a context variable.
    """
    return contextvars.Context().run(function, *arguments)


class Scratch:
    """Memory for one matrix that is kept from call to call. Not thread-safe."""

    def __init__(self) -> None:
        self._memory: Optional[npt.NDArray[np.float32]] = None

    def matrix(self, rows: int, columns: int) -> Matrix:
        """A float32 matrix (rows, columns) in Fortran order, contents undefined; the last one is void."""
        size = rows * columns
        if self._memory is None or self._memory.size < size:
            self._memory = None
            self._memory = np.empty(size, dtype=np.float32)
        return self._memory[:size].reshape((rows, columns), order="F")


def _check(value: Any, dimensions: int, what: str) -> None:
    if not isinstance(value, np.ndarray):
        raise CriticalError(
            f"{what}: expected an array of numpy, got {type(value).__name__} [refsprint-posteriors]"
        )
    if value.ndim != dimensions:
        raise CriticalError(
            f"{what}: expected {dimensions} dimensions, got {value.ndim} [refsprint-posteriors]"
        )
    if not value.flags.aligned or not value.dtype.isnative:
        raise CriticalError(f"{what}: expected an aligned array in native byte order [refsprint-posteriors]")
    if value.dtype.type not in (np.float32, np.float64):
        raise CriticalError(f"{what}: expected float32 or float64, got {value.dtype} [refsprint-posteriors]")
