"""The ring's model with in-place allocation in two threads, and with arrays that outlive their ring."""

from __future__ import annotations

import gc
import threading

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from ring_pair import address, pattern, shared_mappings
from test_ring_model import ABORTED, COMMITTED, OPEN, RingMachine, has_arrays, if_any, is_open

from shmbridge._native import lib

THREADS = st.integers(0, 1)
ARRAYS = {
    "the same": lambda rows, columns: np.empty((rows, columns), np.float32),
    "flat": lambda rows, columns: np.empty(rows * columns, np.float32),
    "transposed": lambda rows, columns: np.empty((columns, rows), np.float32),
    "bytes": lambda rows, columns: np.empty(4 * rows * columns, np.uint8),
    "one row less": lambda rows, columns: np.empty((max(1, rows - 1), columns), np.float32),
    "one row more": lambda rows, columns: np.empty((rows + 1, columns), np.float32),
    "zeros": lambda rows, columns: np.zeros((rows, columns), np.float32),
}


def has_claim(item):
    return item.claim is not None


def can_expect_allocation(item):
    return is_open(item) and item.dtype == np.float32


def is_in_place(array):
    """Return whether numpy allocated the array in a claim: numpy believes that it owns its memory."""
    return isinstance(array, np.ndarray) and array.flags.owndata


def has_arrays_in_place(item):
    return any(map(is_in_place, item.arrays))


class Worker:
    """A thread that runs one function after another, and keeps no reference to functions or results."""

    def __init__(self) -> None:
        self._call = None
        self._requested, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def do(self, function):
        """Run the function in the thread. Returns its result or raises its exception."""
        outcome: list = []
        self._call = function, outcome
        self._requested.release()
        self._done.acquire()
        if isinstance(outcome[0], Exception):
            raise outcome.pop()
        return outcome.pop()

    def end(self) -> None:
        self._requested.release()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._requested.acquire()
            if self._call is None:
                return
            (function, outcome), self._call = self._call, None
            try:
                outcome.append(function())
            except Exception as error:
                outcome.append(error)
            del function, outcome
            self._done.release()


class AllocationMachine(RingMachine):
    """The main thread expects no allocation, because the checks allocate arrays there."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()
        self.n_mappings = len(shared_mappings())
        self.threads = [Worker(), Worker()]
        self.expected = [None, None]  # for each thread: the claim that expects the next array
        self.shapes = [(3, 4), (3, 4)]  # for each thread: of the claim that expected one last
        self.orphans = []  # (array, its bytes), of rings that are gone
        self.n_written = 0

    def teardown(self):
        super().teardown()
        for thread in self.threads:
            thread.end()
        self.orphans.clear()
        self.expected.clear()
        if hasattr(self, "ring"):
            del self.ring
            self.sent.clear()
        gc.collect()
        assert len(shared_mappings()) <= self.n_mappings

    # --- allocation

    @rule(rows=st.integers(1, 12), columns=st.integers(1, 5), thread=THREADS)
    def claim_and_allocate(self, rows, columns, thread):
        item = self.claim_matrix(rows, columns, lib.SHMB_FLOAT32, 0, lib.SHMB_ERROR_SIGNAL)
        if item is not None:
            self.expect(item, thread)
            self.allocate(thread, "the same")

    @if_any(can_expect_allocation)
    @rule(data=st.data(), thread=THREADS)
    def expect_allocation(self, data, thread):
        self.expect(self.pick(data, can_expect_allocation), thread)

    def expect(self, item, thread):
        self.threads[thread].do(item.claim.expect_allocation)
        self.expected[thread], self.shapes[thread] = item, item.shape

    @rule(thread=THREADS, how=st.sampled_from(list(ARRAYS)))
    def allocate(self, thread, how):
        item = self.expected[thread]
        rows, columns = self.shapes[thread]
        array = self.threads[thread].do(lambda: ARRAYS[how](rows, columns))
        begin = address(array) - self.ring.base
        if item and item.state == OPEN and how != "zeros" and array.nbytes == item.content.size > 0:
            assert address(array) == address(item.claim.matrix)
            assert item.claim.holds(array) == (array.shape == item.shape and array.dtype == item.dtype)
            self.expected[thread] = None
            item.arrays.append(array)
        else:
            assert not 0 <= begin < self.ring.capacity

    @if_any(has_arrays)
    @if_any(has_claim)
    @rule(data=st.data(), thread=THREADS)
    def check_what_a_claim_holds(self, data, thread):
        item, other = self.pick(data, has_claim), self.pick(data, has_arrays)
        array, claim = other.arrays[-1], item.claim
        found = self.threads[thread].do(lambda: claim.holds(array))
        if self.expected[thread] is item:
            self.expected[thread] = None
        whole = isinstance(array, np.ndarray) and (array.shape, array.dtype) == (item.shape, item.dtype)
        whole = whole and array.flags.c_contiguous
        matrix = self.ring.base + item.begin + item.size - -(-item.content.size // 64) * 64
        assert found == (whole and address(array) == matrix)

    @if_any(is_open)
    @rule(data=st.data(), thread=THREADS, how=st.sampled_from(["commit", "abort", "drop"]))
    def finish_in_a_thread(self, data, thread, how):
        item = self.pick(data, is_open)
        claims, item.claim = [item.claim], None
        self.threads[thread].do(claims.clear if how == "drop" else getattr(claims[0], how))
        item.claim = claims.pop() if claims else None
        item.state = COMMITTED if how == "commit" else ABORTED
        item.status, item.states = 0, 0

    # --- arrays in place

    @if_any(has_arrays_in_place)
    @rule(
        data=st.data(),
        use=st.sampled_from(["write", "resize", "view"]),
        thread=THREADS,
        more=st.integers(-40, 40),
    )
    def use_an_array_in_place(self, data, use, thread, more):
        item = self.pick(data, has_arrays_in_place)
        index = next(index for index, array in enumerate(item.arrays) if is_in_place(array))
        if use == "resize":
            self.resize(item, item.arrays.pop(index), thread, more)
        elif use == "view":
            item.arrays[index] = item.arrays[index][::-1]
        elif is_open(item):
            self.n_written += 1
            item.content = pattern(self.n_written + 4321, item.content.size)
            item.arrays[index].reshape(-1).view(np.uint8)[...] = item.content

    def resize(self, item, array, thread, more):
        """Resize an array, which moves it out of the ring."""
        begin, kept, size = address(array), item.content, max(1, array.size + more)
        self.threads[thread].do(lambda: array.resize(size, refcheck=False))
        if array.nbytes == kept.size:  # numpy does nothing
            assert address(array) == begin
            item.arrays.append(array)
            return
        assert not 0 <= address(array) - self.ring.base < self.ring.capacity
        found = array.reshape(-1).view(np.uint8)
        shared = min(found.size, kept.size)
        assert (found[:shared] == kept[:shared]).all()
        assert not found[shared:].any()

    # --- rings that close

    @precondition(lambda self: len(self.sent) > 3)  # rarely enough for other steps to happen
    @rule(steps=st.sampled_from([16, 32, 64]), claims_first=st.booleans())
    def replace_the_ring(self, steps, claims_first):
        """Delete both ends and everything they hold except arrays."""
        for item in self.sent:
            arrays = [array for array in [*item.arrays, *item.views] if isinstance(array, np.ndarray)]
            self.orphans += [(array, array.tobytes()) for array in arrays]
            item.record, item.arrays, item.views = None, [], []
        self.ring.close()
        if not claims_first:
            self.ring = None
        for item in self.sent:  # a thread may still expect an allocation in one of them
            item.claim, item.state = None, ABORTED
        self.open(steps)

    @precondition(lambda self: self.orphans)
    @rule(data=st.data())
    def drop_an_orphan(self, data):
        del self.orphans[data.draw(st.integers(0, len(self.orphans) - 1), "orphan")]

    @precondition(lambda self: hasattr(self, "ring"))
    @invariant()
    def orphans_keep_their_content(self):
        for array, content in self.orphans:
            assert array.tobytes() == content


AllocationMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck)
)


class TestAllocationAgainstTheModel(AllocationMachine.TestCase):
    pass
