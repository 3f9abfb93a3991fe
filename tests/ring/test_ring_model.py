"""Random steps on a ring, compared with a model in plain Python."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ring_pair import DTYPES, RingPair, address, pattern

from shmbridge._native import lib
from shmbridge.errors import SegmentTooLargeError, UsageError

OPEN, COMMITTED, ABORTED = "open", "committed", "aborted"


# Drawn by index, because hypothesis keeps drawn objects alive.
VIEWS = [
    lambda matrix: matrix,
    lambda matrix: matrix.T,
    lambda matrix: matrix[:1],
    lambda matrix: matrix[::-1, 1:],
    lambda matrix: matrix.reshape(-1),
    memoryview,
]


# --- conditions for the steps


def is_open(item):
    return item.state == OPEN


def is_closed_claim(item):
    return item.state != OPEN and item.claim is not None


def has_arrays(item):
    return item.arrays


def has_record(item):
    return item.record is not None


def has_views(item):
    return item.views


def has_views_to_drop(item):
    return len(item.views) > 1


def if_any(condition):
    """Allow a step only if an item meets the condition, because a step without one is wasted."""
    return precondition(lambda self: any(map(condition, self.sent)))


class Sent:
    """The model of one claim."""

    def __init__(self, claim, name, content, begin, size):
        self.claim = claim
        self.sequence = claim.sequence
        self.name = name
        self.content = content
        self.begin = begin
        self.size = size
        self.state = OPEN
        self.loss = 0.0
        self.arrays = []  # the producer's, without the claim's own
        self.record = None  # the consumer's
        self.views = []
        self.was_received = False
        self.was_released = False

    @property
    def keeps_its_space(self):
        """Whether the ring must not reuse its bytes."""
        if self.arrays or self.views or self.state == OPEN:
            return True
        return self.state == COMMITTED and not self.was_released


class RingMachine(RuleBasedStateMachine):
    @initialize(steps=st.sampled_from([4, 6, 8, 13, 16, 32, 64]))
    def open(self, steps):
        self.ring = RingPair(steps * 64)
        self.sent = []  # in the order of the claims
        self.n_received = 0  # the number of items in self.sent that the consumer has received or skipped
        self.n_claims = 0

    def teardown(self):
        if hasattr(self, "ring"):
            self.check_that_the_ring_can_be_emptied()
            self.ring.close()

    # --- the producer

    @rule(
        part=st.floats(0, 1),
        dtype=st.sampled_from(list(DTYPES)),
        name_length=st.sampled_from([0, 0, 0, 1, 63, 64, 65]),
        columns=st.integers(1, 5),
        kind=st.integers(lib.SHMB_POSTERIORS, lib.SHMB_SCORES),
    )
    def claim(self, part, dtype, name_length, columns, kind):
        ring = self.ring
        item = DTYPES[dtype].itemsize
        room = max(0, ring.capacity - 64 - -(-name_length // 64) * 64)
        self.claim_matrix(int(part * part * room / (item * columns)), columns, dtype, name_length, kind)

    def claim_matrix(self, rows, columns, dtype, name_length, kind):
        """Return the claimed item, or None if there is no room."""
        ring = self.ring
        item = DTYPES[dtype].itemsize
        size = lib.shmb_record_size(dtype, rows, columns, name_length)
        name = bytes(pattern(self.n_claims + 5, name_length))
        try:
            claim = ring.producer.claim(kind, rows, columns, name=name, sequence=self.n_claims, dtype=dtype)
        except SegmentTooLargeError:
            assert size > ring.capacity
            return None
        except BufferError:
            # The consumer cannot make room: it has released everything, but the producer holds something.
            assert ring.head == ring.tail
            assert any(item.state == OPEN or item.arrays for item in self.sent)
            return None
        assert size <= ring.capacity
        if claim is None:
            # A wait ends: the consumer can still skip or release something.
            assert ring.head < ring.tail
            return None
        begin = address(claim.matrix) - ring.base - 64 - -(-name_length // 64) * 64
        assert begin >= 0
        assert begin + size <= ring.capacity
        assert begin % 64 == 0
        for other in self.sent:
            if other.keeps_its_space:
                assert begin + size <= other.begin or other.begin + other.size <= begin
        content = pattern(self.n_claims, rows * columns * item)
        claim.matrix.reshape(-1).view(np.uint8)[...] = content
        self.n_claims += 1
        item = Sent(claim, name, content, begin, size)
        item.shape, item.dtype, item.kind = (rows, columns), DTYPES[dtype], kind
        self.sent.append(item)
        return item

    def pick(self, data, condition):
        """Draw an item that meets the condition; there must be one."""
        candidates = list(filter(condition, self.sent))
        return candidates[data.draw(st.integers(0, len(candidates) - 1), condition.__name__)]

    @if_any(is_open)
    @rule(
        data=st.data(),
        loss=st.floats(allow_nan=False),
        status=st.integers(0, 2),
        states=st.integers(0, 1 << 63),
    )
    def commit(self, data, loss, status, states):
        item = self.pick(data, is_open)
        item.claim.commit(status, loss, states)
        item.state, item.loss, item.status, item.states = COMMITTED, loss, status, states

    @if_any(is_open)
    @rule(data=st.data(), how=st.sampled_from(["abort", "drop"]))
    def abandon(self, data, how):
        item = self.pick(data, is_open)
        if how == "abort":
            item.claim.abort()
        else:
            item.claim = None
        item.state = ABORTED

    @if_any(is_open)
    @rule(data=st.data())
    def keep_an_array_of_a_claim(self, data):
        item = self.pick(data, is_open)
        item.arrays.append(VIEWS[data.draw(st.integers(0, len(VIEWS) - 1), "view")](item.claim.matrix))

    @if_any(has_arrays)
    @rule(data=st.data())
    def drop_an_array_of_a_claim(self, data):
        item = self.pick(data, has_arrays)
        item.arrays.pop()

    @if_any(is_closed_claim)
    @rule(data=st.data())
    def close_twice(self, data):
        item = self.pick(data, is_closed_claim)
        for close in (item.claim.commit, item.claim.abort):
            try:
                close()
            except UsageError:
                continue
            raise AssertionError("a claim was closed twice")

    # --- the consumer

    @rule()
    def receive(self):
        record = self.ring.consumer.receive()
        while self.n_received < len(self.sent) and self.sent[self.n_received].state == ABORTED:
            self.n_received += 1
        if self.n_received == len(self.sent) or self.sent[self.n_received].state == OPEN:
            assert record is None
            return
        assert record is not None
        item = self.sent[self.n_received]
        self.n_received += 1
        assert record.sequence == item.sequence
        assert record.name == item.name
        assert record.loss == item.loss
        assert (record.kind, record.status, record.states) == (item.kind, item.status, item.states)
        is_answer = item.status == lib.SHMB_ANSWERED and item.dtype == np.float32
        assert record.is_answer(item.sequence, item.kind, *item.shape) == is_answer
        assert not record.is_answer(item.sequence + 1, item.kind, *item.shape)
        assert record.matrix.shape == item.shape
        assert record.matrix.dtype == item.dtype
        item.record = record
        item.was_received = True
        item.views = [record.matrix]
        self.check(item, record.matrix)

    @if_any(has_record)
    @rule(data=st.data())
    def release(self, data):
        item = self.pick(data, has_record)
        if len(item.views) > 1:
            item.views[0] = None
            try:
                item.record.release()
            except BufferError:
                item.views[0] = item.record.matrix
                return
            raise AssertionError("a record was released while a view lives")
        item.views = []
        item.record.release()
        item.record = None
        item.was_released = True

    @if_any(has_views)
    @rule(data=st.data())
    def keep_a_view(self, data):
        item = self.pick(data, has_views)
        item.views.append(VIEWS[data.draw(st.integers(0, len(VIEWS) - 1), "view")](item.views[0]))

    @if_any(has_views_to_drop)
    @rule(data=st.data())
    def drop_a_view(self, data):
        item = self.pick(data, has_views_to_drop)
        item.views.pop()

    @if_any(has_record)
    @rule(data=st.data())
    def drop_a_record(self, data):
        item = self.pick(data, has_record)
        item.record = None
        item.views = []
        item.was_released = True

    # --- always

    def check(self, item, array):
        np.testing.assert_array_equal(
            np.ascontiguousarray(array).reshape(-1).view(np.uint8), item.content, f"record {item.sequence}"
        )

    @precondition(lambda self: hasattr(self, "ring"))
    @invariant()
    def held_records_keep_their_content(self):
        for item in self.sent:
            if item.views:
                self.check(item, item.views[0])
            elif item.state == OPEN:
                self.check(item, item.claim.matrix)
            for array in item.arrays:
                # Not transposed arrays: that of a square matrix has the same shape.
                whole = isinstance(array, np.ndarray) and array.shape == item.shape
                if whole and array.flags.c_contiguous:
                    self.check(item, array)

    @precondition(lambda self: hasattr(self, "ring"))
    @invariant()
    def the_positions_are_valid(self):
        ring = self.ring
        assert ring.head <= ring.tail <= ring.head + ring.capacity
        assert ring.head % 64 == ring.tail % 64 == 0
        assert ring.consumer.used <= ring.capacity
        assert ring.producer.used <= ring.capacity
        held = sum(item.size for item in self.sent if item.record is not None)
        assert ring.consumer.used >= held
        if not held:
            assert ring.consumer.used == 0

    def check_that_the_ring_can_be_emptied(self):
        """Check that a record of the full capacity passes after everything was released."""
        ring = self.ring
        for item in self.sent:
            item.claim = item.record = None
            item.arrays, item.views = [], []
            if item.state == OPEN:
                item.state = ABORTED
        gc.collect()
        left = [item.sequence for item in self.sent[self.n_received :] if item.state == COMMITTED]
        for sequence in left:
            assert ring.consumer.receive().sequence == sequence
        assert ring.consumer.receive() is None
        assert ring.head == ring.tail
        ring.sequence = self.n_claims
        if not ring.send(ring.capacity):
            assert ring.consumer.receive() is None
            ring.must_send(ring.capacity)
        ring.receive(size=ring.capacity).release()
        assert ring.head == ring.tail


RingMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck)
)


class TestRingAgainstTheModel(RingMachine.TestCase):
    pass
