"""What Python holds of a ring, used wrongly: each mistake is an exception, and the ring works on."""

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
from ring_pair import RingPair, address, mappings_of_objects

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

TWO_THREADS = (2100, 2000)  # so large a matrix is copied by two


def claim_record(ring, **changes):
    return ring.producer.claim_record(*{**GOOD, **changes}.values())


def works_on(ring):
    """Send and receive more than fits, so that no place in the ring can be left behind."""
    for _ in range(2 * ring.capacity // 128):
        ring.pass_on(128)
    assert ring.head == ring.tail


class Counted:
    """Converts to a number, and counts how often it had to."""

    def __init__(self) -> None:
        self.calls = 0

    def __float__(self) -> float:
        self.calls += 1
        return 1.5


class Refuses:
    """Has no truth, and is no number."""

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
        ({"dtype": (1 << 32) + 1}, ValueError),  # the lower half is that of float32
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
def test_a_claim_of_what_cannot_be_is_an_error_and_claims_nothing(ring, changes, error):
    value = next(iter(changes.values()))
    before = sys.getrefcount(ring.producer), sys.getrefcount(value)
    for _ in range(100):
        with pytest.raises(error):
            claim_record(ring, **changes)
    assert (sys.getrefcount(ring.producer), sys.getrefcount(value)) == before
    assert ring.producer.used == 0
    works_on(ring)


@pytest.mark.parametrize("arguments", [(), tuple(GOOD.values())[:5], (*GOOD.values(), 1)], ids=len)
def test_a_claim_with_too_few_or_too_many_arguments_names_them(ring, arguments):
    with pytest.raises(TypeError, match=r"kind, dtype, rows, columns, sequence, name \(bytes\)"):
        ring.producer.claim_record(*arguments)
    assert ring.producer.used == 0


def test_numbers_of_numpy_are_numbers(ring):
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
        ((lib.SHMB_FAILED + 1,), ValueError),  # the consumer would take the ring for corrupt
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
def test_a_commit_of_what_cannot_be_leaves_the_claim_open(ring, arguments, error):
    claim = ring.claim(256)
    with pytest.raises(error):
        claim.commit(*arguments)
    assert claim.open
    assert ring.tail == 0
    claim.commit()
    ring.receive(0).release()


def test_commit_takes_no_keywords(ring):
    with pytest.raises(TypeError, match="keyword"):
        ring.claim(256).commit(status=0)


def test_after_the_first_wrong_argument_no_other_is_looked_at(ring):
    loss = Counted()
    with pytest.raises(TypeError):
        ring.claim(256).commit("no status", loss)
    assert loss.calls == 0


def test_a_status_that_aborts_the_claim_while_it_is_converted_is_not_sent(ring):
    claim = ring.claim(256)

    class Aborts:
        def __index__(self) -> int:
            claim.abort()
            return 0

    with pytest.raises(UsageError, match="already committed or aborted"):
        claim.commit(Aborts())
    assert not claim.open
    assert ring.consumer.receive() is None
    works_on(ring)


def test_a_second_abort_and_what_follows_it_is_an_error_each_time(ring):
    claim = ring.claim(256)
    before = sys.getrefcount(claim)
    claim.abort()
    for _ in range(3):
        for use in (claim.abort, claim.commit, claim.expect_landing, lambda: claim.matrix):
            with pytest.raises(UsageError, match="already committed or aborted"):
                use()
    assert sys.getrefcount(claim) == before
    assert claim.shape == (1, 192)  # what it was


# --- what a record answers


@pytest.mark.parametrize(
    ("changes", "good"),
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
def test_a_record_answers_what_it_was_asked_and_nothing_else(ring, changes, good, number):
    claim_record(ring).commit()
    record = ring.consumer.receive()
    asked = {name: GOOD[name] for name in ("sequence", "kind", "rows", "columns")}
    assert record.is_answer(*map(number, {**asked, **changes}.values())) is good


def test_a_record_that_was_skipped_or_is_no_float32_is_no_good_answer(ring):
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
def test_what_cannot_be_asked_of_a_record_is_an_error(ring, arguments, error):
    claim_record(ring).commit()
    with pytest.raises(error):
        ring.consumer.receive().is_answer(*arguments)


# --- ends


def test_an_end_that_was_not_opened_says_so():
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


def test_an_end_is_opened_once(ring):
    claim = ring.claim(256)
    for pointer in (0, int(ffi.cast("uintptr_t", ring.consumer.pointer))):
        with pytest.raises(SystemError, match="opened once"):
            ring.producer._own(pointer)
    claim.commit()
    ring.receive(0)


def test_a_consumer_claims_nothing_and_a_producer_receives_nothing(ring):
    ring.must_send(256)
    for use in (ring.consumer.oldest_open, lambda: ring.consumer.claim_record(*GOOD.values())):
        with pytest.raises(TypeError, match="is for the producer"):
            use()
    with pytest.raises(TypeError, match="is for the consumer"):
        ring.producer.receive()
    ring.receive(0, 256).release()
    works_on(ring)


# --- the types


@pytest.fixture
def objects(ring):
    """One of each type."""
    claim = ring.claim(128)
    ring.must_send(128)
    claim.commit()
    record = ring.receive(0)
    return {"claim": claim, "record": record, "held": record.matrix.base}


@pytest.mark.parametrize("which", ["claim", "record", "held"])
def test_claims_records_and_places_are_made_by_a_ring_only(objects, which):
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


@pytest.mark.parametrize("which", ["claim", "record", "held"])
def test_claims_records_and_places_cannot_be_pickled_or_copied(objects, which):
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
def test_what_they_show_cannot_be_set(objects, which):
    for name in ("sequence", "rows", "columns", "shape", "matrix"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(objects[which], name, 1)
        with pytest.raises((AttributeError, TypeError)):
            delattr(objects[which], name)


# --- who goes first


@pytest.mark.parametrize(
    "order", [*itertools.permutations(["ring", "object", "matrix", "slice"])], ids="-".join
)
@pytest.mark.parametrize("side", ["claim", "sent claim", "record"])
def test_in_whatever_order_they_go_arrays_stay_readable_and_the_memory_goes_last(side, order):
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
    assert not any(first <= begin < last for first, last in mappings_of_objects())


# --- what a claim holds


def test_a_claim_holds_its_matrix_and_nothing_like_it(ring):
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
        "look": True,
        "two_threads": True,
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
        ({"source": np.ones((64, 64), np.float16)}, ValueError),  # it would be read beyond its end
        ({"source": np.ones((64, 64), ">f8")}, ValueError),
        ({"source": np.full((64, 64), None)[:, :0]}, ValueError),
        ({"dtype": lib.SHMB_FLOAT32}, ValueError),
        ({"dtype": lib.SHMB_UINT32}, ValueError),
        ({"dtype": 0}, ValueError),
        ({"dtype": 99}, ValueError),
        ({"dtype": -1}, OverflowError),
        ({"dtype": "float64"}, TypeError),
        ({"look": Refuses()}, ZeroDivisionError),
        ({"two_threads": Refuses()}, ZeroDivisionError),
    ],
)
def test_arrays_that_do_not_fit_are_not_copied(changes, error):
    arguments = _arrays(**changes)
    with pytest.raises(error):
        _ring.copy(*arguments.values())
    if isinstance(arguments["target"], np.ndarray):
        assert not arguments["target"].any()


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("rows_apart", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), TWO_THREADS], ids=str)
def test_a_copy_writes_its_target_and_no_byte_beside_it(shape, rows_apart, dtype, look):
    code = {4: lib.SHMB_FLOAT32, 8: lib.SHMB_FLOAT64, 2: lib.SHMB_FLOAT16}[np.dtype(dtype).itemsize]
    rows, columns = shape
    frame = np.full((rows + 2, columns + rows_apart), -77, np.float32)
    source = (np.arange(rows * columns) % 1021 + 1).astype(dtype).reshape(shape)
    assert _ring.copy(frame[1:-1, :columns], source, code, look, True) is None
    np.testing.assert_array_equal(frame[1:-1, :columns], source.astype(np.float32))
    for beside in (frame[0], frame[-1], frame[:, columns:]):
        assert (beside == -77).all()


@pytest.mark.parametrize("row", [0, TWO_THREADS[0] // 2 - 1, TWO_THREADS[0] // 2, TWO_THREADS[0] - 1])
def test_two_threads_find_the_first_nan(row):
    source = np.zeros(TWO_THREADS, np.float32)
    source[row, 7] = source[-1, -1] = np.nan
    found = _ring.copy(np.empty_like(source), source, lib.SHMB_FLOAT32, True, True)
    assert found == row * source.shape[1] + 7


@pytest.mark.parametrize("count", [0, 4, 6])
def test_a_copy_with_too_few_or_too_many_arguments_names_them(count):
    with pytest.raises(TypeError, match="dtype, look, two_threads"):
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
def test_nan_is_looked_for_in_plain_float32_only(argument):
    with pytest.raises(TypeError, match="C-ordered float32"):
        _ring.find_nan(argument)


# --- no memory: each allocation of a call fails in turn


def _fail_in_turn(call):
    """Call it until it succeeds: at the n-th time its n-th allocation fails.

    Returns:
        How often it failed, and its result.
    """
    testcapi = pytest.importorskip("_testcapi", reason="this Python has no way to let allocations fail")
    for failures in range(200):
        with contextlib.suppress(MemoryError):
            testcapi.set_nomemory(failures, failures + 1)
            try:
                result = call()
            finally:
                testcapi.remove_mem_hooks()
            return failures, result
    raise AssertionError("it never succeeds")


def test_a_claim_for_which_there_is_no_memory_claims_nothing(ring):
    producer, arguments = ring.producer, tuple(GOOD.values())
    before = sys.getrefcount(producer)
    failures, claim = _fail_in_turn(lambda: producer.claim_record(*arguments))
    assert failures > 0
    assert ring.producer.oldest_open() == (5, b"segment")
    claim.abort()
    del claim
    assert ring.tail == 192  # one record, for all those calls
    assert sys.getrefcount(producer) == before
    assert ring.consumer.receive() is None
    works_on(ring)


def test_an_array_for_which_there_is_no_memory_holds_no_place(ring):
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
    works_on(ring)


def test_a_record_for_which_there_is_no_memory_gives_its_place_back(ring):
    for _ in range(8):
        ring.must_send(128)
    failures, record = _fail_in_turn(ring.consumer.receive)
    assert failures > 0
    assert record is not None
    del record
    while ring.consumer.receive() is not None:
        pass
    assert ring.head == ring.tail
    works_on(ring)


def test_where_there_is_no_memory_for_what_is_asked_asking_again_helps(ring):
    claim = claim_record(ring)
    assert _fail_in_turn(ring.producer.oldest_open)[1] == (5, b"segment")
    assert _fail_in_turn(lambda: claim.shape)[1] == (3, 4)
    _fail_in_turn(claim.expect_landing)
    array = np.empty((3, 4), np.float32)
    assert claim.holds(array)
    claim.commit()
    del array
    ring.consumer.receive().release()
    assert ring.head == ring.tail
    works_on(ring)
