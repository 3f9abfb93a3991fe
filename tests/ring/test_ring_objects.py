"""Wrong uses of ends, claims and records: each raises an exception, and the ring continues to work."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import pickle
import sys
import weakref

import numpy as np
import pytest
from ring_pair import RingPair, address, is_mapped

from shmbridge import _ring
from shmbridge._native import ffi, lib
from shmbridge.errors import SegmentTooLargeError, UsageError

GOOD = {
    "kind": lib.SHMB_POSTERIORS,
    "dtype": lib.SHMB_FLOAT32,
    "rows": 3,
    "columns": 4,
    "sequence": 5,
    "name": b"segment",
}

TWO_THREADS = (2100, 2000)  # large enough to be copied by two threads


def claim_record(ring, **changes):
    return ring.producer.claim_record(*{**GOOD, **changes}.values())


def check_works(ring):
    """Send and receive more than fits, which finds space that was not freed."""
    for _ in range(2 * ring.capacity // 128):
        ring.pass_on(128)
    assert ring.head == ring.tail


class Counted:
    """Converts to a number, and counts the conversions."""

    def __init__(self) -> None:
        self.calls = 0

    def __float__(self) -> float:
        self.calls += 1
        return 1.5


class Refuses:
    """Converts neither to a bool nor to a number."""

    def _refuse(self) -> int:
        raise ZeroDivisionError("this value refuses")

    __bool__ = __index__ = __float__ = _refuse


# --- arguments of claims


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"kind": 0}, ValueError),
        ({"kind": lib.SHMB_PADDING}, ValueError),
        ({"kind": lib.SHMB_SCORES + 1}, ValueError),
        ({"kind": "2"}, TypeError),
        ({"dtype": 1.0}, TypeError),
        ({"dtype": (1 << 32) + 1}, ValueError),  # the lower half is float32's
        ({"rows": None}, TypeError),
        ({"rows": 1 << 64}, OverflowError),
        ({"rows": 1 << 32}, SegmentTooLargeError),
        ({"columns": np.float32(4)}, TypeError),
        ({"columns": -1}, OverflowError),
        ({"sequence": 1 << 64}, OverflowError),
        ({"sequence": Refuses()}, ZeroDivisionError),
        ({"name": "segment"}, TypeError),
        ({"name": bytearray(b"segment")}, TypeError),
        ({"name": b"x" * 4097}, SegmentTooLargeError),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, dict) else "",
)
def test_a_claim_with_an_invalid_argument_claims_nothing(ring, changes, error):
    value = next(iter(changes.values()))
    before = sys.getrefcount(ring.producer), sys.getrefcount(value)
    for _ in range(100):
        with pytest.raises(error):
            claim_record(ring, **changes)
    assert (sys.getrefcount(ring.producer), sys.getrefcount(value)) == before
    assert ring.producer.used == 0
    check_works(ring)


@pytest.mark.parametrize("arguments", [(), tuple(GOOD.values())[:5], (*GOOD.values(), 1)], ids=len)
def test_a_claim_with_a_wrong_number_of_arguments_lists_them(ring, arguments):
    with pytest.raises(TypeError, match=r"kind, dtype, rows, columns, sequence, name \(bytes\)"):
        ring.producer.claim_record(*arguments)
    assert ring.producer.used == 0


def test_numpy_integers_are_accepted(ring):
    claim = claim_record(
        ring, kind=np.int8(3), dtype=np.uint64(1), rows=np.int64(2), sequence=np.uint64(1 << 63)
    )
    claim.commit(np.int64(lib.SHMB_SKIPPED), np.float32(0.5), np.uint64((1 << 64) - 1))
    record = ring.consumer.receive()
    assert (record.kind, record.shape, record.sequence) == (3, (2, 4), 1 << 63)
    assert (record.status, record.loss, record.states) == (lib.SHMB_SKIPPED, 0.5, (1 << 64) - 1)


# --- commit and abort


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((lib.SHMB_FAILED + 1,), ValueError),  # the consumer would treat the ring as corrupt
        ((1 << 32,), ValueError),
        ((-1,), OverflowError),
        ((0.0,), TypeError),
        ((None, 1.0), TypeError),
        ((0, "1.0"), TypeError),
        ((0, Refuses()), ZeroDivisionError),
        ((0, 1.0, -1), OverflowError),
        ((0, 1.0, 2.0), TypeError),
        ((0, 1.0, 1 << 64), OverflowError),
        ((0, 1.0, 2, 3), TypeError),
    ],
)
def test_a_commit_with_an_invalid_argument_leaves_the_claim_open(ring, arguments, error):
    claim = ring.claim(256)
    with pytest.raises(error):
        claim.commit(*arguments)
    assert claim.open
    assert ring.tail == 0
    claim.commit()
    ring.receive(0).release()


def test_commit_accepts_no_keywords(ring):
    with pytest.raises(TypeError, match="keyword"):
        ring.claim(256).commit(status=0)


def test_arguments_after_the_first_invalid_one_are_not_converted(ring):
    loss = Counted()
    with pytest.raises(TypeError):
        ring.claim(256).commit("no status", loss)
    assert loss.calls == 0


def test_a_claim_that_is_aborted_during_the_conversion_of_its_status_is_not_sent(ring):
    claim = ring.claim(256)

    class Aborts:
        def __index__(self) -> int:
            claim.abort()
            return 0

    with pytest.raises(UsageError, match="already committed or aborted"):
        claim.commit(Aborts())
    assert not claim.open
    assert ring.consumer.receive() is None
    check_works(ring)


def test_each_use_of_an_aborted_claim_raises_an_error(ring):
    claim = ring.claim(256)
    before = sys.getrefcount(claim)
    claim.abort()
    for _ in range(3):
        for use in (claim.abort, claim.commit, claim.expect_allocation, lambda: claim.matrix):
            with pytest.raises(UsageError, match="already committed or aborted"):
                use()
    assert sys.getrefcount(claim) == before
    assert claim.shape == (1, 192)  # unchanged


# --- is_answer


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"sequence": 6}, False),
        ({"kind": lib.SHMB_ERROR_SIGNAL}, False),
        ({"rows": 4, "columns": 3}, False),
        ({"columns": (1 << 32) + 4}, False),  # the lower half is the record's
    ],
    ids=str,
)
@pytest.mark.parametrize("number", [int, np.uint64])
def test_a_record_answers_its_own_request_only(ring, changes, expected, number):
    claim_record(ring).commit()
    record = ring.consumer.receive()
    request = {name: GOOD[name] for name in ("sequence", "kind", "rows", "columns")}
    assert record.is_answer(*map(number, {**request, **changes}.values())) is expected


def test_a_skipped_record_or_another_dtype_is_not_an_answer(ring):
    claim_record(ring).commit(lib.SHMB_SKIPPED)
    claim_record(ring, dtype=lib.SHMB_UINT32).commit()
    for _ in range(2):
        assert not ring.consumer.receive().is_answer(5, lib.SHMB_POSTERIORS, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), TypeError),
        ((5, 2, 3), TypeError),
        ((5, 2, 3, 4, 5), TypeError),
        ((5, 2, 3, 4.0), TypeError),
        ((5, 2, 3, None), TypeError),
        ((5, 2, -3, 4), OverflowError),
        ((1 << 64, 2, 3, 4), OverflowError),
        ((5, Refuses(), 3, 4), ZeroDivisionError),
    ],
)
def test_is_answer_with_invalid_arguments_raises_an_error(ring, arguments, error):
    claim_record(ring).commit()
    with pytest.raises(error):
        ring.consumer.receive().is_answer(*arguments)


# --- ends


def test_an_unopened_end_raises_an_error():
    end = _ring.End()
    for use in (end.receive, end.oldest_open, lambda: end.claim_record(*GOOD.values())):
        with pytest.raises(SystemError, match="was not opened"):
            use()
    with pytest.raises(TypeError):
        end._own("address")
    with pytest.raises(OverflowError):
        end._own(1 << 64)
    with pytest.raises(SystemError, match="opened once"):
        end._own(0)


def test_an_end_cannot_be_opened_twice(ring):
    claim = ring.claim(256)
    for pointer in (0, int(ffi.cast("uintptr_t", ring.consumer.pointer))):
        with pytest.raises(SystemError, match="opened once"):
            ring.producer._own(pointer)
    claim.commit()
    ring.receive(0)


def test_a_consumer_cannot_claim_and_a_producer_cannot_receive(ring):
    ring.must_send(256)
    for use in (ring.consumer.oldest_open, lambda: ring.consumer.claim_record(*GOOD.values())):
        with pytest.raises(TypeError, match="is for the producer"):
            use()
    with pytest.raises(TypeError, match="is for the consumer"):
        ring.producer.receive()
    ring.receive(0, 256).release()
    check_works(ring)


# --- the types


@pytest.fixture
def objects(ring):
    """Return an object of each type."""
    claim = ring.claim(128)
    ring.must_send(128)
    claim.commit()
    record = ring.receive(0)
    return {"claim": claim, "record": record, "ref": record.matrix.base}


@pytest.mark.parametrize("which", ["claim", "record", "ref"])
def test_only_a_ring_creates_claims_records_and_their_refs(objects, which):
    kind = type(objects[which])
    for make in (kind, lambda: object.__new__(kind), lambda: type("Mine", (kind,), {})):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError):
        kind.release = None
    with pytest.raises(AttributeError):
        objects[which].anything = 1
    with pytest.raises(TypeError):
        weakref.ref(objects[which])


@pytest.mark.parametrize("which", ["claim", "record", "ref"])
def test_claims_records_and_their_refs_cannot_be_pickled_or_copied(objects, which):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(objects[which], protocol)
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickle"):
            duplicate(objects[which])


def test_ends_cannot_be_pickled_or_copied(ring):
    for end in (ring.producer, ring.consumer, _ring.End()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(end, protocol)
        with pytest.raises(TypeError, match="pickle"):
            copy.copy(end)


@pytest.mark.parametrize("which", ["claim", "record"])
def test_attributes_of_claims_and_records_are_read_only(objects, which):
    for name in ("sequence", "rows", "columns", "shape", "matrix"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(objects[which], name, 1)
        with pytest.raises((AttributeError, TypeError)):
            delattr(objects[which], name)


# --- the order of deletion


@pytest.mark.parametrize(
    "order", [*itertools.permutations(["ring", "object", "matrix", "slice"])], ids="-".join
)
@pytest.mark.parametrize("side", ["claim", "sent claim", "record"])
def test_arrays_stay_readable_and_the_memory_is_unmapped_last_in_any_order_of_deletion(side, order):
    ring = RingPair(1024)
    if side == "record":
        ring.must_send(256)
        thing = ring.receive(0)
    else:
        thing = ring.claim(256)
    matrix = thing.matrix
    if side == "sent claim":
        thing.commit()
    begin = address(matrix)
    ring.close()
    held = {"ring": ring, "object": thing, "matrix": matrix, "slice": matrix[0, 5:]}
    expected = held["slice"].copy()
    del ring, thing, matrix
    for name in order:
        del held[name]
        gc.collect()
        if "slice" in held:
            np.testing.assert_array_equal(held["slice"], expected)
        if "matrix" in held:
            np.testing.assert_array_equal(held["matrix"][0, 5:], expected)
    assert not is_mapped(begin)


# --- holds


def test_a_claim_holds_its_matrix_and_no_similar_object(ring):
    claim = claim_record(ring, rows=4, columns=4)
    matrix = claim.matrix
    assert claim.holds(matrix)
    assert claim.holds(matrix[:])
    others = [None, "array", [[1.0]], matrix.T, matrix[:2], matrix[0], matrix.reshape(2, 8), matrix.copy()]
    others += [matrix.view(np.int32), matrix.view(matrix.dtype.newbyteorder()), memoryview(matrix)]
    for other in others:
        assert not claim.holds(other)


# --- copying


def _arrays(**changes):
    arguments = {
        "target": np.zeros((64, 64), np.float32),
        "source": np.ones((64, 64), np.float64),
        "dtype": lib.SHMB_FLOAT64,
        "check": lib.SHMB_CHECK_NAN_INF,
        "use_second_thread": True,
    }
    return {**arguments, **changes}


def _read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"target": [[1.0]]}, TypeError),
        ({"source": memoryview(b"")}, TypeError),
        ({"target": np.zeros((64, 64))}, ValueError),
        ({"target": np.zeros((64, 65), np.float32)}, ValueError),
        ({"target": np.zeros((64, 64, 1), np.float32)}, ValueError),
        ({"target": np.zeros((64, 64), ">f4")}, ValueError),
        ({"target": np.zeros((64, 64), np.float32).T}, ValueError),
        ({"target": _read_only(np.zeros((64, 64), np.float32))}, ValueError),
        ({"source": np.ones((64, 63))}, ValueError),
        ({"source": np.float64(1)}, TypeError),
        ({"source": np.array(1.0)}, ValueError),
        ({"source": np.ones((64, 64), np.float16)}, ValueError),  # would be read beyond its end
        ({"source": np.ones((64, 64), ">f8")}, ValueError),
        ({"source": np.full((64, 64), None)[:, :0]}, ValueError),
        ({"dtype": lib.SHMB_FLOAT32}, ValueError),
        ({"dtype": lib.SHMB_UINT32}, ValueError),
        ({"dtype": 0}, ValueError),
        ({"dtype": 99}, ValueError),
        ({"dtype": -1}, OverflowError),
        ({"dtype": "float64"}, TypeError),
        ({"check": 3}, ValueError),
        ({"check": -1}, OverflowError),
        ({"check": None}, TypeError),
        ({"use_second_thread": Refuses()}, ZeroDivisionError),
    ],
)
def test_arrays_that_do_not_match_are_not_copied(changes, error):
    arguments = _arrays(**changes)
    with pytest.raises(error):
        _ring.copy(*arguments.values())
    if isinstance(arguments["target"], np.ndarray):
        assert not arguments["target"].any()


@pytest.mark.parametrize("check", [lib.SHMB_CHECK_NOTHING, lib.SHMB_CHECK_NAN, lib.SHMB_CHECK_NAN_INF])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("rows_apart", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), TWO_THREADS], ids=str)
def test_a_copy_writes_only_its_target(shape, rows_apart, dtype, check):
    code = {4: lib.SHMB_FLOAT32, 8: lib.SHMB_FLOAT64, 2: lib.SHMB_FLOAT16}[np.dtype(dtype).itemsize]
    rows, columns = shape
    frame = np.full((rows + 2, columns + rows_apart), -77, np.float32)
    source = (np.arange(rows * columns) % 1021 + 1).astype(dtype).reshape(shape)
    assert _ring.copy(frame[1:-1, :columns], source, code, check, True) is None
    np.testing.assert_array_equal(frame[1:-1, :columns], source.astype(np.float32))
    for outside in (frame[0], frame[-1], frame[:, columns:]):
        assert (outside == -77).all()


@pytest.mark.parametrize("row", [0, TWO_THREADS[0] // 2 - 1, TWO_THREADS[0] // 2, TWO_THREADS[0] - 1])
def test_two_threads_find_the_first_nan(row):
    source = np.zeros(TWO_THREADS, np.float32)
    source[row, 7] = source[-1, -1] = np.nan
    found = _ring.copy(np.empty_like(source), source, lib.SHMB_FLOAT32, lib.SHMB_CHECK_NAN, True)
    assert found == row * source.shape[1] + 7


@pytest.mark.parametrize("count", [0, 4, 6])
def test_a_copy_with_a_wrong_number_of_arguments_lists_them(count):
    with pytest.raises(TypeError, match="dtype, check, use_second_thread"):
        _ring.copy(*[*_arrays().values(), None][:count])


@pytest.mark.parametrize(
    "argument",
    [
        None,
        np.float32(1),
        np.ones((3, 4)),
        np.ones((3, 4), ">f4"),
        np.ones((3, 4), np.float32).T,
        np.ones((3, 4), np.float32)[:, ::2],
    ],
)
@pytest.mark.parametrize("function", ["find_invalid", "sum_of_exponentials"])
def test_checks_accept_only_c_ordered_float32(function, argument):
    with pytest.raises(TypeError, match=f"{function} takes a C-ordered float32"):
        getattr(_ring, function)(argument)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (0, 3), (3, 0)])
def test_the_sum_of_exponentials_requires_a_matrix_with_elements(shape):
    with pytest.raises(ValueError, match="a matrix with elements"):
        _ring.sum_of_exponentials(np.zeros(shape, np.float32))


def test_the_sum_of_exponentials_is_that_of_the_middle_row():
    matrix = np.log(np.array([[9, 9, 9], [0.25, 0.5, 1], [9, 9, 9]], np.float32))
    assert _ring.sum_of_exponentials(matrix) == pytest.approx(1.75, rel=0.004)


# --- no memory: each allocation of a call fails once


def _fail_in_turn(call):
    """Call the function until it succeeds; its n-th allocation fails in the n-th call.

    Returns:
        The number of failures, and the result.
    """
    testcapi = pytest.importorskip("_testcapi", reason="this Python cannot make allocations fail")
    for failures in range(200):
        with contextlib.suppress(MemoryError):
            testcapi.set_nomemory(failures, failures + 1)
            try:
                result = call()
            finally:
                testcapi.remove_mem_hooks()
            return failures, result
    raise AssertionError("the call never succeeds")


def test_a_claim_without_memory_claims_nothing(ring):
    producer, arguments = ring.producer, tuple(GOOD.values())
    before = sys.getrefcount(producer)
    failures, claim = _fail_in_turn(lambda: producer.claim_record(*arguments))
    assert failures > 0
    assert ring.producer.oldest_open() == (5, b"segment")
    claim.abort()
    del claim
    assert ring.tail == 192  # one record for all calls
    assert sys.getrefcount(producer) == before
    assert ring.consumer.receive() is None
    check_works(ring)


def test_an_array_without_memory_keeps_no_space(ring):
    claim = ring.claim(512)
    failures, matrix = _fail_in_turn(lambda: claim.matrix)
    assert failures > 0
    del matrix
    claim.commit()
    record = ring.receive(0)
    failures, matrix = _fail_in_turn(lambda: record.matrix)
    assert failures > 0
    del matrix
    record.release()
    assert ring.head == ring.tail
    check_works(ring)


def test_a_record_without_memory_releases_its_space(ring):
    for _ in range(8):
        ring.must_send(128)
    failures, record = _fail_in_turn(ring.consumer.receive)
    assert failures > 0
    assert record is not None
    del record
    while ring.consumer.receive() is not None:
        pass
    assert ring.head == ring.tail
    check_works(ring)


def test_calls_without_memory_can_be_retried(ring):
    claim = claim_record(ring)
    assert _fail_in_turn(ring.producer.oldest_open)[1] == (5, b"segment")
    assert _fail_in_turn(lambda: claim.shape)[1] == (3, 4)
    _fail_in_turn(claim.expect_allocation)
    array = np.empty((3, 4), np.float32)
    assert claim.holds(array)
    claim.commit()
    del array
    ring.consumer.receive().release()
    assert ring.head == ring.tail
    check_works(ring)
