"""An array over a record keeps the record's space and the mapping."""

from __future__ import annotations

import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
from ring_pair import RingPair, address, is_mapped, pattern

from shmbridge._native import lib

VIEWS = {
    "slice": lambda matrix: matrix[:, 3:7],
    "transposed": lambda matrix: matrix.T,
    "element row": lambda matrix: matrix[0],
    "memoryview": memoryview,
    "asarray": np.asarray,
    "reshaped": lambda matrix: matrix.reshape(-1),
    "other dtype": lambda matrix: matrix.view(np.int8),
    "view of a view": lambda matrix: matrix[:, ::-1].T[2:],
    "subclass": lambda matrix: matrix.view(np.recarray),
    "read-only": lambda matrix: np.broadcast_to(matrix, (3, *matrix.shape)),
    "as_strided": lambda matrix: np.lib.stride_tricks.as_strided(matrix, (4,), (2,)),
    "iterator": lambda matrix: matrix.flat,
    "data": lambda matrix: matrix.data,
    "frombuffer": lambda matrix: np.frombuffer(matrix, np.uint8),
    "dlpack": np.from_dlpack,
}


@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS.keys())
def test_release_raises_while_a_view_exists_and_succeeds_afterwards(ring, view_of):
    ring.must_send(256)
    record = ring.receive(0)
    view = view_of(record.matrix)
    with pytest.raises(BufferError, match="still views it"):
        record.release()
    assert record.matrix is not None
    assert ring.head == 0
    del view
    record.release()
    assert record.matrix is None
    assert ring.head == 256


@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS.keys())
def test_a_deleted_record_is_released_with_its_last_view(ring, view_of):
    ring.must_send(256)
    record = ring.receive(0)
    view = view_of(record.matrix)
    del record
    gc.collect()
    assert ring.head == 0
    del view
    assert ring.head == 256


def test_dropping_a_record_releases_it(ring):
    ring.must_send(256)
    ring.receive(0)
    assert ring.head == 256


def test_a_second_release_has_no_effect(ring):
    ring.must_send(128)
    ring.must_send(128)
    record = ring.receive(0)
    record.release()
    record.release()
    assert ring.head == 128


def test_a_refused_release_leaves_the_record_readable(ring):
    ring.must_send(256)
    record = ring.receive(0)
    view = record.matrix[0]
    with pytest.raises(BufferError):
        record.release()
    ring.check(record)
    np.testing.assert_array_equal(view, pattern(0, 192))


def test_a_record_is_released_with_the_last_of_several_views(ring):
    ring.must_send(256)
    record = ring.receive(0)
    views = [record.matrix[:, i : i + 9] for i in range(10)]
    del record
    while views:
        assert ring.head == 0
        views.pop()
    assert ring.head == 256


def test_the_garbage_collector_releases_a_view_in_a_reference_cycle(ring):
    ring.must_send(256)
    cycle = [ring.receive(0).matrix]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert ring.head == 256


def test_an_array_over_the_raw_buffer_keeps_the_space(ring):
    ring.must_send(1024)
    record = ring.receive(0)
    array = np.frombuffer(record.matrix.data.cast("B"), np.uint8)
    with pytest.raises(BufferError):
        record.release()
    del record
    assert ring.head == 0
    assert not ring.send(64)
    np.testing.assert_array_equal(array, pattern(0, 960))
    del array
    assert ring.head == 1024


def test_copies_do_not_keep_the_record(ring):
    ring.must_send(256)
    record = ring.receive(0)
    copies = [record.matrix.copy(), np.array(record.matrix), pickle.loads(pickle.dumps(record.matrix))]  # noqa: S301
    record.release()
    assert ring.head == 256
    for copy in copies:
        np.testing.assert_array_equal(copy[0], pattern(0, 192))


def test_a_view_of_a_record_outlives_everything_else():
    ring = RingPair(1024)
    ring.must_send(512)
    view = ring.receive(0).matrix[0, 10:]
    ring.close()
    consumer = weakref.ref(ring.consumer)
    del ring
    gc.collect()
    assert consumer() is None
    np.testing.assert_array_equal(view, pattern(0, 448)[10:])
    view[...] = 1
    assert (view == 1).all()
    del view
    gc.collect()


def test_an_array_of_a_claim_outlives_everything_else():
    ring = RingPair(1024)
    claim = ring.claim(512)
    view = claim.matrix[0, 10:]
    claim.commit()
    del claim
    ring.close()
    del ring
    gc.collect()
    np.testing.assert_array_equal(view, pattern(0, 448)[10:])
    view[...] = 1
    del view
    gc.collect()


def test_a_claim_outlives_everything_else():
    ring = RingPair(1024)
    claim, other = ring.claim(512), ring.claim(128)
    ring.close()
    del ring
    gc.collect()
    np.testing.assert_array_equal(claim.matrix[0], pattern(0, 448))
    claim.commit()
    other.abort()


def test_the_last_view_unmaps_the_memory():
    ring = RingPair(1 << 20)
    ring.must_send(512)
    view = ring.receive(0).matrix[0]
    begin = address(view)
    ring.close()
    del ring
    gc.collect()
    assert is_mapped(begin)
    del view
    gc.collect()
    assert not is_mapped(begin)


def test_an_old_record_does_not_release_a_new_one_in_the_same_space(ring):
    ring.must_send(1024)
    old = ring.receive(0)
    late = old.matrix[0, 3:]
    with pytest.raises(BufferError):
        old.release()
    del late, old
    ring.must_send(1024)
    new = ring.receive(1)
    gc.collect()
    assert ring.head == 1024
    assert not ring.send(64)
    new.release()


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0)])
@pytest.mark.parametrize("name", [b"", b"corpus/rec/segment"])
def test_a_matrix_without_elements_is_sent_and_released_like_any_other(ring, shape, name):
    for sequence in range(40):
        claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, *shape, name=name, sequence=sequence)
        assert claim.matrix.shape == shape
        claim.commit(lib.SHMB_SKIPPED, float("inf"))
        record = ring.consumer.receive()
        assert record.matrix.shape == shape
        assert record.matrix.dtype == np.float32
        assert (record.name, record.sequence, record.loss) == (name, sequence, float("inf"))
        view = record.matrix[:0]
        with pytest.raises(BufferError):
            record.release()
        assert ring.head < ring.tail
        del view
        record.release()
        assert ring.head == ring.tail


def test_a_record_without_elements_fits_at_the_end_of_the_ring(ring):
    ring.must_send(960)
    claim = ring.producer.claim(lib.SHMB_ERROR_SIGNAL, 0, 3, sequence=5)
    claim.commit()
    ring.receive(0).release()
    record = ring.consumer.receive()
    assert (record.sequence, record.matrix.shape) == (5, (0, 3))
    record.release()
    assert ring.head == ring.tail == 1024


def test_finished_records_and_claims_hold_no_references(ring):
    ring.pass_on(256)
    before = sys.getrefcount(ring.producer), sys.getrefcount(ring.consumer)
    for _ in range(100):
        ring.pass_on(256)
        ring.claim(128).abort()
        ring.consumer.receive()
    assert (sys.getrefcount(ring.producer), sys.getrefcount(ring.consumer)) == before
