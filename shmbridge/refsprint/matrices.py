"""Conversion of matrices between Sprint and Python.

Sprint's matrices are (dimension, time) in Fortran order. Python receives a new float32 array, filled with one
memcpy. Sprint accepts any aligned float32 or float64 matrix in native byte order.
"""

from __future__ import annotations

import contextvars
import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .console import CriticalError

__all__ = [
    "Matrix",
    "from_python",
    "to_python",
    "vector_from_python",
    "without_allocation_handlers",
]

Matrix = npt.NDArray[np.float32]
_T = TypeVar("_T")

# PyDLL, unlike CDLL and numpy, holds the GIL: no other thread runs while Sprint copies.
_memcpy = ctypes.PyDLL(None).memcpy
_memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcpy.restype = ctypes.c_void_p


def to_python(matrix: Matrix) -> Matrix:
    """Copy a matrix into a new float32 array (dimension, time) in Fortran order."""
    array = np.empty(matrix.shape, dtype=np.float32, order="F")
    if matrix.flags.f_contiguous and matrix.dtype == np.float32:
        _memcpy(array.ctypes.data, matrix.ctypes.data, array.nbytes)
    else:
        np.copyto(array, matrix)
    return array


def from_python(value: Any, what: str) -> Matrix:
    """Return a matrix as float32 in Fortran order, without a copy if it is already that.

    Raises:
        CriticalError: Sprint does not accept `value`, called `what`, as a matrix.
    """
    matrix: Matrix = np.asarray(_checked(value, 2, what), dtype=np.float32, order="F")
    return matrix


def vector_from_python(value: Any, what: str) -> npt.NDArray[np.floating]:
    """Check a vector as from_python does, and return it. Sprint accepts only floats, even for indices."""
    return _checked(value, 1, what)


def without_allocation_handlers(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in an empty context, so that its arrays come from numpy's own allocator.

    Python code may install an allocation handler (NEP 49) for the array that Sprint allocates for it. In
    Sprint, numpy does not allocate other arrays, so refsprint hides its own from the handler. numpy keeps the
    handler in a context variable.
    """
    return contextvars.Context().run(function, *arguments)


def _checked(value: Any, num_dimensions: int, what: str) -> npt.NDArray[np.floating]:
    if not isinstance(value, np.ndarray):
        problem = f"expected a numpy array, got {type(value).__name__}"
    elif value.ndim != num_dimensions:
        problem = f"expected {num_dimensions} dimensions, got {value.ndim}"
    elif not value.flags.aligned or not value.dtype.isnative:
        problem = "expected an aligned array in native byte order"
    elif value.dtype.type not in (np.float32, np.float64):
        problem = f"expected float32 or float64, got {value.dtype}"
    else:
        return value
    raise CriticalError(f"{what}: {problem} [refsprint-posteriors]")
