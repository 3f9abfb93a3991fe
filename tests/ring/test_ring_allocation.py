"""In-place allocation: when numpy's next array is a claim's matrix, by thread, context and time."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import threading

import numpy as np
import pytest
from ring_pair import RingPair, address, shared_mappings

from shmbridge._native import lib
from shmbridge.errors import UsageError

try:
    from numpy._core.multiarray import get_handler_name
except ImportError:  # numpy 1
    from numpy.core.multiarray import get_handler_name

SHAPE = (3, 4)


@pytest.fixture
def ring(ring_of):
    """A ring with room for some error signals."""
    return ring_of(1 << 14)


@pytest.fixture
def claim_of(ring):
    """Return a function that claims an error signal with a sequence number."""
    return lambda sequence=0, **more: ring.producer.claim(
        lib.SHMB_ERROR_SIGNAL, *SHAPE, sequence=sequence, **more
    )


def allocate():
    return np.empty(SHAPE, np.float32)


def is_allocated_in(claim):
    """Return whether an array that the claim expects is allocated in it."""
    claim.expect_allocation()
    return claim.holds(allocate())


def test_only_the_next_array_of_the_size_is_allocated_in_place(claim_of):
    claim = claim_of()
    claim.expect_allocation()
    others = [np.empty((3, 5), np.float32), np.zeros(SHAPE, np.float32), np.empty(0, np.float32)]
    in_place = allocate()
    others.append(allocate())
    assert address(in_place) == address(claim.matrix)
    assert not any(claim.holds(other) for other in others)
    assert get_handler_name(in_place) == get_handler_name() == "shmbridge"


def test_only_a_float32_matrix_can_be_the_next_array(claim_of):
    """Numpy allocates by the size of float32; it would write beyond the end of a smaller dtype's matrix."""
    claim = claim_of(dtype=lib.SHMB_UINT8)
    with pytest.raises(ValueError, match="float32"):
        claim.expect_allocation()
    assert address(allocate()) != address(claim.matrix)


@pytest.mark.parametrize("end", ["abort", "commit", "drop", "holds"])
def test_a_claim_that_ends_does_not_cancel_what_another_expects(claim_of, end):
    first, second = claim_of(1), claim_of(2)
    first.expect_allocation()
    second.expect_allocation()  # replaces the first
    if end == "drop":
        del first
    elif end == "holds":
        assert not first.holds(second.matrix)
    else:
        getattr(first, end)()
    assert second.holds(allocate())


@pytest.mark.parametrize("end", ["abort", "commit", "drop", "holds"])
def test_a_claim_that_ends_expects_no_allocation(claim_of, end):
    claim = claim_of()
    claim.expect_allocation()
    matrix = claim.matrix
    if end == "drop":
        del claim
    elif end == "holds":
        claim.holds(matrix)
    else:
        getattr(claim, end)()
    assert address(allocate()) != address(matrix)


def test_an_expectation_is_limited_to_its_thread(claim_of):
    claim = claim_of()
    thread = threading.Thread(target=claim.expect_allocation)
    thread.start()
    thread.join()
    assert not claim.holds(allocate())
    assert is_allocated_in(claim)


def test_arrays_are_allocated_in_place_in_every_context_of_a_thread(claim_of):
    """Numpy stores the handler in a context variable, so each context needs it."""
    for run in [contextvars.copy_context().run, contextvars.Context().run, lambda call, *more: call(*more)]:
        assert run(is_allocated_in, claim_of())
        assert run(is_allocated_in, claim_of())
    found = []
    thread = threading.Thread(target=lambda: found.append(is_allocated_in(claim_of())))
    thread.start()
    thread.join()
    assert found == [True]


def test_a_handler_that_other_code_set_stays(claim_of):
    assert is_allocated_in(claim_of())

    def within():
        set_another_handler()
        claim = claim_of()
        assert not is_allocated_in(claim)
        array = allocate()
        assert get_handler_name(array) == get_handler_name() == "another"

    contextvars.Context().run(within)
    assert is_allocated_in(claim_of())


def test_a_thread_that_ends_while_it_expects_an_array_keeps_no_memory_mapped():
    gc.collect()
    before = shared_mappings()
    ring = RingPair(1024)
    claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, *SHAPE)
    thread = threading.Thread(target=claim.expect_allocation)
    thread.start()
    thread.join()
    ring.close()
    del claim, ring, thread
    gc.collect()
    assert shared_mappings() == before


# --- a record that is sent when its array is freed


@pytest.fixture
def landed(claim_of):
    """A claim, and a list of the only reference to the array that numpy allocated in it."""
    claim = claim_of()
    claim.expect_allocation()
    arrays = [allocate()]
    assert claim.holds(arrays[0])
    arrays[0][...] = 5
    return claim, arrays


def check_sent(ring, loss):
    record = ring.consumer.receive()
    assert record.loss == loss
    assert (record.matrix == 5).all()
    assert ring.consumer.receive() is None


@pytest.mark.parametrize("last", ["the array", "a view", "a buffer", "the claim"])
def test_a_record_is_sent_when_the_last_reference_to_its_array_is_gone(ring, landed, last):
    claim, arrays = landed
    claim.commit_when_freed(2.5)
    assert claim.allocation_lives()
    if last == "a view":
        arrays[0] = arrays[0][1:].T
    elif last == "a buffer":
        arrays[0] = memoryview(arrays[0])
    elif last == "the claim":
        del claim
    del landed
    assert ring.consumer.receive() is None
    arrays.clear()
    check_sent(ring, 2.5)


def test_a_record_is_sent_from_the_thread_that_frees_its_array(ring, landed):
    claim, arrays = landed
    claim.commit_when_freed(2.5)
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join()
    check_sent(ring, 2.5)
    assert not claim.take_back()
    assert not claim.open


def test_a_record_is_sent_when_its_array_moves_elsewhere(ring, landed):
    claim, arrays = landed
    claim.commit_when_freed(2.5)
    arrays[0].resize(1000, refcheck=False)
    arrays[0][...] = 6
    check_sent(ring, 2.5)


def test_a_record_without_an_array_is_sent_at_once(ring, claim_of):
    claim = claim_of()
    claim.matrix[...] = 5
    claim.expect_allocation()
    claim.commit_when_freed(2.5)
    check_sent(ring, 2.5)
    for use in (claim.abort, claim.commit, lambda: claim.commit_when_freed(1.0)):
        with pytest.raises(UsageError, match="already committed or aborted"):
            use()


def test_a_claim_that_is_taken_back_is_open_again_and_its_array_stays(ring, landed):
    claim, arrays = landed
    claim.commit_when_freed(2.5)
    for use in (claim.abort, claim.commit, lambda: claim.commit_when_freed(1.0)):
        with pytest.raises(UsageError, match="already committed or aborted"):
            use()
    assert claim.take_back()
    assert not claim.take_back()
    assert claim.open
    claim.abort()
    for _ in range(40):
        ring.send(256)
        while ring.consumer.receive() is not None:
            pass
    assert (arrays[0] == 5).all()


def test_an_array_may_be_freed_after_its_ring():
    gc.collect()
    before = shared_mappings()
    ring = RingPair(1024)
    claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, *SHAPE)
    claim.expect_allocation()
    array = allocate()
    claim.commit_when_freed(2.5)
    ring.close()
    del claim, ring
    array[...] = 5
    del array
    gc.collect()
    assert shared_mappings() == before


def test_an_array_that_is_only_observed_is_allocated_elsewhere(claim_of):
    claim = claim_of()
    assert claim.allocation_lives() is None
    claim.expect_allocation(False)
    array, other = allocate(), allocate()
    assert not claim.holds(array)
    assert address(array) != address(claim.matrix) != address(other)
    assert claim.allocation_lives() is True
    array.resize(1000, refcheck=False)
    del other
    assert claim.allocation_lives() is True
    claim.commit()
    del array
    assert claim.allocation_lives() is False


def test_a_claim_that_expected_an_array_without_success_has_none(claim_of):
    claim = claim_of()
    claim.expect_allocation(False)
    assert claim.allocation_lives() is None
    array = allocate()
    assert claim.allocation_lives() is None
    assert address(array)


# --- numpy's C API through ctypes


def function_of_python(name, result, *arguments):
    function = getattr(ctypes.pythonapi, name)
    function.restype, function.argtypes = result, arguments
    return function


POINTER_IN = function_of_python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
CAPSULE = function_of_python(
    "PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)
SET_HANDLER, DEFAULT_HANDLER = 304, 306  # indices in numpy's table, which are part of its ABI
HANDLER_SIZE = 128 + 5 * ctypes.sizeof(ctypes.c_void_p)  # name and version; context and four functions
KIND = b"mem_handler"
kept = []  # living arrays need their handler


def set_another_handler():
    """Set a copy of numpy's own handler, under another name, in this context."""
    multiarray = (getattr(np, "_core", None) or np.core)._multiarray_umath
    table = ctypes.cast(POINTER_IN(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    default = ctypes.cast(table[DEFAULT_HANDLER], ctypes.POINTER(ctypes.py_object)).contents.value
    handler = ctypes.create_string_buffer(ctypes.string_at(POINTER_IN(default, KIND), HANDLER_SIZE))
    name = b"another\0"
    handler[: len(name)] = name
    capsule = CAPSULE(ctypes.addressof(handler), KIND, None)
    kept.append((handler, capsule))
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])(capsule)
