"""Several open claims: committed in any order, aborted, dropped, or outlived by their arrays."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from ring_pair import pattern

from shmbridge._native import lib
from shmbridge.errors import UsageError


def test_claims_committed_in_reverse_arrive_in_the_order_of_claiming(ring):
    claims = [ring.claim(192) for _ in range(5)]
    for claim in claims[:0:-1]:
        claim.commit()
        assert ring.consumer.receive() is None
        assert ring.tail == 0
    claims[0].commit()
    assert ring.tail == 5 * 192
    for sequence in range(5):
        ring.receive(sequence, 192).release()


def test_the_consumer_skips_aborted_claims_between_others(ring):
    claims = [ring.claim(192) for _ in range(4)]
    claims[1].abort()
    claims[3].commit()
    claims[2].abort()
    claims[0].commit()
    ring.receive(0).release()
    ring.receive(3).release()
    assert ring.consumer.receive() is None
    assert ring.head == ring.tail == 4 * 192


def test_aborting_the_oldest_claim_makes_later_records_visible(ring):
    first, second = ring.claim(128), ring.claim(128)
    second.commit()
    assert ring.consumer.receive() is None
    first.abort()
    ring.receive(1).release()


def test_dropping_a_claim_aborts_it(ring):
    first, second = ring.claim(128), ring.claim(128)
    second.commit()
    del first
    ring.receive(1).release()
    assert ring.head == ring.tail == 256


def test_aborting_all_claims_leaves_an_empty_ring(ring):
    for _ in range(50):
        claims = [ring.claim(320) for _ in range(3)]
        for claim in claims[::-1]:
            claim.abort()
        assert ring.consumer.receive() is None
        assert ring.head == ring.tail
    assert ring.must_send(960) == 0


def test_a_living_array_of_a_dropped_claim_does_not_hide_later_records(ring):
    claim = ring.claim(256)
    array = claim.matrix
    ring.must_send(128)
    del claim
    ring.receive(1).release()
    array[...] = 7  # neither end reads or writes there
    assert ring.consumer.receive() is None


def test_an_array_over_an_aborted_claim_keeps_its_space(ring):
    claim = ring.claim(512)
    array = claim.matrix
    claim.abort()
    assert ring.consumer.receive() is None
    assert ring.must_send(512) == 512
    ring.receive(1).release()
    array[...] = 7
    with pytest.raises(BufferError):
        ring.claim(64)
    assert (array == 7).all()
    del array
    assert ring.must_send(1024) == 0
    ring.receive(2).release()


def test_an_array_over_a_committed_record_keeps_its_space_after_the_release(ring):
    claim = ring.claim(512)
    array = claim.matrix
    claim.commit()
    ring.receive(0).release()
    ring.must_send(512)
    ring.receive(1).release()
    with pytest.raises(BufferError):
        ring.claim(64)
    np.testing.assert_array_equal(array[0], pattern(0, 448))
    row = array[0, 5:9]
    del array, claim
    with pytest.raises(BufferError):
        ring.claim(64)
    np.testing.assert_array_equal(row, pattern(0, 448)[5:9])
    del row
    assert ring.must_send(512) == 0


def test_a_committed_claim_cannot_be_used(ring):
    claim = ring.claim(128)
    claim.commit()
    for again in (claim.commit, claim.abort, lambda: claim.matrix):
        with pytest.raises(UsageError, match="already committed or aborted"):
            again()
    ring.receive(0).release()
    assert ring.consumer.receive() is None


def test_an_aborted_claim_cannot_be_used(ring):
    claim = ring.claim(128)
    claim.abort()
    for again in (claim.commit, claim.abort, lambda: claim.matrix):
        with pytest.raises(UsageError, match="already committed or aborted"):
            again()
    assert ring.consumer.receive() is None


def test_a_finished_claim_cannot_be_committed_after_its_space_was_reused(ring):
    old = ring.claim(1024)
    old.commit()
    ring.receive(0).release()
    new = ring.claim(1024)
    with pytest.raises(UsageError):
        old.commit()
    with pytest.raises(UsageError):
        old.abort()
    del old
    gc.collect()
    new.commit()
    ring.receive(1).release()


def test_status_loss_and_states_arrive(ring):
    claim = ring.claim(128)
    claim.commit(lib.SHMB_SKIPPED, -1.5e300, 12345678901234)
    record = ring.receive(0)
    assert record.kind == lib.SHMB_POSTERIORS
    assert (record.status, record.loss, record.states) == (lib.SHMB_SKIPPED, -1.5e300, 12345678901234)


def test_a_thousand_claims_may_be_open_at_once(ring_of):
    ring = ring_of(64 * 1000)
    claims = [ring.claim(64) for _ in range(1000)]
    for claim in claims[::-1]:
        claim.commit()
    records = [ring.receive(sequence) for sequence in range(1000)]
    assert ring.consumer.used == 64 * 1000
    for record in records[::2] + records[1::2]:
        record.release()
    assert ring.consumer.used == 0


# --- full, or held by the producer itself


def test_a_ring_full_of_unreleased_records_is_full(ring):
    ring.must_send(1024)
    assert ring.claim(64) is None
    record = ring.receive(0)
    assert ring.claim(64) is None
    record.release()
    ring.must_send(64)


def test_claiming_in_a_ring_full_of_open_claims_raises_a_buffer_error(ring):
    claim = ring.claim(1024)
    with pytest.raises(BufferError, match=r"1024 of the ring's 1024 bytes; .* ring_size"):
        ring.claim(64)
    claim.abort()
    assert ring.consumer.receive() is None
    ring.must_send(64)


def test_a_ring_is_full_while_unreleased_records_precede_an_open_claim(ring):
    ring.must_send(512)
    claim = ring.claim(512)
    assert ring.claim(64) is None
    record = ring.receive(0)
    assert ring.claim(64) is None
    record.release()
    assert ring.claim(512) is not None
    claim.abort()


def test_padding_behind_an_open_claim_does_not_make_the_ring_full(ring):
    # Waiting would never end: the padding cannot be published before the open claim.
    ring.must_send(256)
    ring.must_send(128)
    claim = ring.claim(256)  # 384 to 640
    ring.receive(0).release()
    ring.receive(1).release()
    assert ring.head == ring.tail == 384
    for _ in range(2):
        with pytest.raises(BufferError):
            ring.claim(640)  # 384 to the end, 384 at the beginning
    claim.commit()
    assert ring.claim(640) is None
    ring.receive(2).release()
    assert ring.consumer.receive() is None
    assert ring.must_send(640) == 0


@pytest.mark.parametrize("size", [64, 128, 448, 512])
def test_two_claims_of_half_the_ring_fit_into_an_empty_one_at_any_position(ring, size):
    # The first restarts behind padding that takes nearly the whole ring but is not a claim of the user.
    ring.pass_on(size)
    first = ring.claim(size)
    second = ring.claim(size)
    if second is None:
        assert ring.consumer.receive() is None  # the consumer skips the padding
        second = ring.claim(size)
    assert second is not None
    second.commit()
    first.commit()
    ring.receive(1).release()
    ring.receive(2).release()


def test_a_ring_with_a_held_array_is_full_until_the_consumer_skips_the_padding(ring):
    ring.must_send(384)
    claim = ring.claim(256)
    array = claim.matrix
    claim.commit()
    ring.receive(0).release()
    ring.receive(1).release()
    assert ring.claim(640) is None
    assert ring.tail != ring.head
    assert ring.consumer.receive() is None
    with pytest.raises(BufferError):
        ring.claim(640)
    assert array.size == 192


# --- the consumer's releases


def test_releases_out_of_order_free_the_space_in_order(ring):
    for _ in range(4):
        ring.must_send(256)
    records = [ring.receive(sequence) for sequence in range(4)]
    records[2].release()
    records[1].release()
    assert ring.head == 0
    assert ring.claim(64) is None
    records[0].release()
    assert ring.head == 768
    assert ring.must_send(768) == 0
    records[3].release()
    assert ring.head == 1024


def test_padding_between_held_records_is_freed_with_them(ring):
    ring.must_send(512)
    ring.must_send(448)
    ring.receive(0).release()
    ring.must_send(128)  # behind 64 bytes of padding
    before, after = ring.receive(1), ring.receive(2)
    after.release()
    assert ring.head == 512
    before.release()
    assert ring.head == ring.tail == 1024 + 128
