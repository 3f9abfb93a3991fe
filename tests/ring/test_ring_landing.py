"""Numpy's next array is the claim's matrix: in which threads and contexts, and for how long."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import threading

import numpy as np
import pytest
from ring_pair import RingPair, address, mappings_of_objects

from shmbridge._native import lib

try:
    from numpy._core.multiarray import get_handler_name
except ImportError:  # numpy 1
    from numpy.core.multiarray import get_handler_name

SHAPE = (3, 4)


@pytest.fixture
def claim_of(ring_of):
    """Call it with a sequence number."""
    ring = ring_of(1 << 14)
    return lambda sequence=0, **more: ring.producer.claim(
        lib.SHMB_ERROR_SIGNAL, *SHAPE, sequence=sequence, **more
    )


def allocate():
    return np.empty(SHAPE, np.float32)


def lands(claim):
    """Expect it and allocate."""
    claim.expect_landing()
    return claim.holds(allocate())


def test_only_the_next_array_of_that_size_lands(claim_of):
    claim = claim_of()
    claim.expect_landing()
    others = [np.empty((3, 5), np.float32), np.zeros(SHAPE, np.float32), np.empty(0, np.float32)]
    landed = allocate()
    others.append(allocate())
    assert address(landed) == address(claim.matrix)
    assert not any(claim.holds(other) for other in others)
    assert get_handler_name(landed) == get_handler_name() == "shmbridge"


def test_only_a_float32_matrix_can_be_the_next_array(claim_of):
    """Numpy is told a size in bytes of float32: another matrix would be written beyond its end."""
    claim = claim_of(dtype=lib.SHMB_UINT8)
    with pytest.raises(ValueError, match="float32"):
        claim.expect_landing()
    assert address(allocate()) != address(claim.matrix)


@pytest.mark.parametrize("end", ["abort", "commit", "drop", "holds"])
def test_a_claim_that_ends_leaves_what_another_expects(claim_of, end):
    first, second = claim_of(1), claim_of(2)
    first.expect_landing()
    second.expect_landing()  # in the place of the first
    if end == "drop":
        del first
    elif end == "holds":
        assert not first.holds(second.matrix)
    else:
        getattr(first, end)()
    assert second.holds(allocate())


@pytest.mark.parametrize("end", ["abort", "commit", "drop", "holds"])
def test_a_claim_that_ends_is_expected_no_longer(claim_of, end):
    claim = claim_of()
    claim.expect_landing()
    matrix = claim.matrix
    if end == "drop":
        del claim
    elif end == "holds":
        claim.holds(matrix)
    else:
        getattr(claim, end)()
    assert address(allocate()) != address(matrix)


def test_a_thread_expects_its_own_claims_only(claim_of):
    claim = claim_of()
    thread = threading.Thread(target=claim.expect_landing)
    thread.start()
    thread.join()
    assert not claim.holds(allocate())
    assert lands(claim)


def test_arrays_land_in_every_context_of_a_thread(claim_of):
    """The handler is a context variable of numpy's: what one context has set, another has not."""
    for where in [contextvars.copy_context().run, contextvars.Context().run, lambda call, *more: call(*more)]:
        assert where(lands, claim_of())
        assert where(lands, claim_of())
    found = []
    thread = threading.Thread(target=lambda: found.append(lands(claim_of())))
    thread.start()
    thread.join()
    assert found == [True]


def test_a_handler_that_somebody_set_meanwhile_is_left_alone(claim_of):
    assert lands(claim_of())

    def within():
        set_another_handler()
        claim = claim_of()
        assert not lands(claim)
        array = allocate()
        assert get_handler_name(array) == get_handler_name() == "somebody's"

    contextvars.Context().run(within)
    assert lands(claim_of())


def test_a_thread_that_ends_while_it_expects_an_array_keeps_no_memory():
    gc.collect()
    before = mappings_of_objects()
    ring = RingPair(1024)
    claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, *SHAPE)
    thread = threading.Thread(target=claim.expect_landing)
    thread.start()
    thread.join()
    ring.close()
    del claim, ring, thread
    gc.collect()
    assert mappings_of_objects() == before


# --- numpy's C API by ctypes


def function_of_python(name, result, *arguments):
    function = getattr(ctypes.pythonapi, name)
    function.restype, function.argtypes = result, arguments
    return function


POINTER_IN = function_of_python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
CAPSULE = function_of_python(
    "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)
SET_HANDLER, DEFAULT_HANDLER = 304, 306  # places in numpy's table, which are part of its ABI
HANDLER_SIZE = 128 + 5 * ctypes.sizeof(ctypes.c_void_p)  # name and version; context and four functions
KIND = b"mem_handler"
kept = []  # arrays that are still there need them


def set_another_handler():
    """Give this context a handler that does what numpy's own does, under another name."""
    multiarray = (getattr(np, "_core", None) or np.core)._multiarray_umath
    table = ctypes.cast(POINTER_IN(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    default = ctypes.cast(table[DEFAULT_HANDLER], ctypes.POINTER(ctypes.py_object)).contents.value
    handler = ctypes.create_string_buffer(ctypes.string_at(POINTER_IN(default, KIND), HANDLER_SIZE))
    name = b"somebody's\0"
    handler[: len(name)] = name
    capsule = CAPSULE(ctypes.addressof(handler), KIND, None)
    kept.append((handler, capsule))
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])(capsule)
