"""Conversion of matrices, and the allocations that a numpy allocation handler sees."""

from __future__ import annotations

import contextvars
import ctypes
from typing import Any

import numpy as np
import pytest

from shmbridge.refsprint.callback import Callback
from shmbridge.refsprint.configuration import Configuration
from shmbridge.refsprint.console import CriticalError
from shmbridge.refsprint.matrices import from_python, to_python, vector_from_python

MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "matrix",
    [MATRIX, np.asfortranarray(MATRIX), MATRIX[::-1], MATRIX[:0], MATRIX[:, :0], MATRIX[:1], MATRIX[:, :1]],
)
def test_to_python_copies_into_fortran_order(matrix: Any) -> None:
    array = to_python(matrix)
    assert (array == matrix).all()
    assert array.shape == matrix.shape
    assert array.dtype == np.float32
    assert array.flags.f_contiguous
    assert array.flags.writeable
    assert array.flags.owndata
    assert not np.shares_memory(array, matrix)


def test_a_matrix_in_sprints_layout_is_not_copied() -> None:
    matrix = np.asfortranarray(MATRIX)
    matrix.flags.writeable = False
    assert from_python(matrix, "x") is matrix
    for other in (MATRIX, MATRIX.astype(np.float64), MATRIX[::-1]):
        taken = from_python(other, "x")
        assert taken.flags.f_contiguous
        assert taken.dtype == np.float32
        assert (taken == other).all()


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.0,
        [[1.0]],
        MATRIX[0],
        MATRIX[None],
        MATRIX.astype(int),
        MATRIX.astype("f2"),
        MATRIX.astype(">f4"),
    ],
)
def test_an_unacceptable_matrix_is_a_critical_error(value: Any) -> None:
    with pytest.raises(CriticalError, match="thing"):
        from_python(value, "thing")


def test_sprint_accepts_alignments_only_as_floats() -> None:
    vector = np.zeros(3, dtype=np.float32)
    assert vector_from_python(vector, "x") is vector
    with pytest.raises(CriticalError):
        vector_from_python(np.zeros(3, dtype=np.uint32), "x")


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class _Handler(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator))


_SET_HANDLER, _GET_HANDLER = 304, 305  # indices into numpy's table of C functions, since 1.22


def _numpy_function(place: int, *arguments: Any) -> Any:
    core = getattr(np, "_core", None) or np.core
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(get_pointer(core._multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, *arguments)(table[place])


def test_a_handler_sees_the_error_signal_and_no_other_large_allocation() -> None:
    # The child recognizes Sprint's array by its size (NEP 49): refsprint must not allocate another one.
    labels, time = 50, 70
    size = labels * time * 4
    caught = []
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    libc.calloc.restype = ctypes.c_void_p
    libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)

    def malloc(_context: Any, bytes_: int) -> Any:
        caught.append(bytes_)
        return libc.malloc(bytes_)

    def calloc(_context: Any, count: int, each: int) -> Any:
        caught.append(count * each)
        return libc.calloc(count, each)

    malloc_type = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    calloc_type = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    functions = malloc_type(malloc), calloc_type(calloc)
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    default = ctypes.cast(
        get_pointer(_numpy_function(_GET_HANDLER)(), b"mem_handler"), ctypes.POINTER(_Handler)
    ).contents
    handler = _Handler(b"test", 1, default.allocator)
    handler.allocator.malloc = ctypes.cast(functions[0], ctypes.c_void_p).value
    handler.allocator.calloc = ctypes.cast(functions[1], ctypes.c_void_p).value
    capsule_name = ctypes.create_string_buffer(b"mem_handler")

    posteriors = np.log(np.random.default_rng(0).dirichlet(np.ones(labels), time)).astype(np.float32)
    callback = Callback(Configuration.from_arguments(["--*.input-in-log-space=true"]))
    callback._model.__dict__["lexicon"] = _lexicon(labels)

    def calculate() -> None:
        capsule = new_capsule(ctypes.addressof(handler), ctypes.addressof(capsule_name), None)
        _numpy_function(_SET_HANDLER, ctypes.py_object)(capsule)
        for given in (posteriors.T, posteriors.T.astype(np.float64), posteriors.T.copy()):
            caught.clear()
            for orthography in ("w ", "w w "):
                loss, error = callback(
                    "calculate_criterion",
                    posteriors=given,
                    orthography=orthography,
                    output_error_type="error-signal",
                )
                assert loss > 0
                assert error.shape == (labels, time)
            assert [bytes_ for bytes_ in caught if bytes_ >= size // 4] == [size, size]

    contextvars.copy_context().run(calculate)


def _lexicon(labels: int) -> Any:
    from shmbridge.bliss.lexicon import Lemma, Lexicon, Pronunciation

    word = Lemma((("w",),), (Pronunciation((1, 2, 3), 0.0),), None)
    blank = Lemma((("b",),), (Pronunciation((0,), 0.0),), "blank")
    return Lexicon("lexicon.xml", [f"p{i}" for i in range(labels)], [word, blank])
