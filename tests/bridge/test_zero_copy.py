"""No byte is copied: the parent and Sprint read and write the same memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

import shmbridge
from support.mappings import offset_in_shared_memory


@pytest.fixture
def new_sprint(sprint_env):
    """A pool of tests/sprints/zero_copy.py, and a function that returns its notes."""
    notes = sprint_env.path / "notes"
    notes.write_text("")
    options = sprint_env.sprint_file("zero_copy", {"notes": notes}, use_python_segment_order=False)
    with shmbridge.SprintSubprocessInstance(**options) as pool:
        yield pool, lambda: [json.loads(line) for line in notes.read_text().splitlines()]


@pytest.fixture
def sprint(new_sprint):
    """The same after its first segment, whose error signal is not allocated in the ring."""
    pool, notes = new_sprint
    _, result = exchange(pool, "c/r/plain")
    result.release()
    assert notes()[-1]["error_signal"] is None
    return pool, notes


def exchange(pool, name, shape=(10, 6)):
    claim = pool.claim(name, *shape)
    claim.posteriors[...] = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    where = offset_in_shared_memory(claim.posteriors)
    return where, claim.send().result()


def test_both_sides_read_the_memory_that_the_other_wrote(sprint):
    pool, notes = sprint
    for shape in [(10, 6), (1, 6), (300, 6)]:
        where, result = exchange(pool, "c/r/plain", shape)
        note = notes()[-1]
        assert where is not None
        assert note["posteriors"] == where
        assert note["strides"] == [4, 4 * shape[1]]
        assert note["error_signal"] is not None
        assert note["error_signal"] == offset_in_shared_memory(result.error_signal)
        np.testing.assert_array_equal(result.error_signal, expected(shape))
        result.release()


def expected(shape):
    return 2 * np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("when", ["from the first segment", "later"])
@pytest.mark.parametrize("way", ["kept", "scratch", "same-buffer"])
def test_arrays_that_sprint_keeps_and_results_that_the_trainer_keeps_do_not_change(new_sprint, way, when):
    pool, notes = new_sprint
    shape = (50, 6)
    if when == "later":
        for _ in range(2):
            exchange(pool, "c/r/plain")[1].release()
        assert notes()[-1]["error_signal"] is not None
    results = []
    for i in range(20):
        claim = pool.claim(f"c/r/{way}", *shape)
        claim.posteriors[...] = i
        results.append(claim.send().result())
    for i, result in enumerate(results):
        assert (result.error_signal == 2 * i).all()
    assert all(note["kept_are_unchanged"] for note in notes())


@pytest.mark.parametrize("way", ["kept", "scratch", "same-buffer"])
def test_a_sprint_that_keeps_arrays_never_fills_the_ring(new_sprint, way):
    pool, _ = new_sprint
    shape = (20000, 6)  # The ring has room for two.
    for _ in range(6):
        _, result = exchange(pool, f"c/r/{way}", shape)
        np.testing.assert_array_equal(result.error_signal, expected(shape))
        result.release()
    assert pool.stats().restarts == 0


@pytest.mark.parametrize("way", ["c-order", "float64", "other-size", "first-one-freed"])
def test_an_error_signal_outside_the_ring_is_copied(sprint, way):
    pool, notes = sprint
    for _ in range(3):
        _, result = exchange(pool, f"c/r/{way}")
        np.testing.assert_array_equal(result.error_signal, expected((10, 6)))
        assert offset_in_shared_memory(result.error_signal) != notes()[-1]["error_signal"]
        result.release()


def test_a_skipped_segment_leaves_nothing_in_the_ring(sprint):
    pool, notes = sprint
    for _ in range(100):
        _, result = exchange(pool, "c/r/discarded", (1000, 6))
        assert result.skipped
    _, result = exchange(pool, "c/r/plain", (10000, 6))
    assert notes()[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
    result.release()
