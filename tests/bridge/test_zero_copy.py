"""No byte is copied: the parent and Sprint read and write the same memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

import shmbridge
from support.mappings import offset_in_shared_memory


@pytest.fixture
def sprint(sprint_env):
    """A pool of tests/sprints/zero_copy.py, and a function that returns its notes."""
    notes = sprint_env.path / "notes"
    notes.write_text("")
    options = sprint_env.sprint_file("zero_copy", {"notes": notes}, use_python_segment_order=False)
    with shmbridge.SprintSubprocessInstance(**options) as pool:
        yield pool, lambda: [json.loads(line) for line in notes.read_text().splitlines()]


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
        expected = 2 * np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(result.error_signal, expected)
        result.release()


def test_an_error_signal_that_sprint_keeps_does_not_change(sprint):
    pool, notes = sprint
    for _ in range(20):
        _, result = exchange(pool, "c/r/kept", (50, 6))
        result.release()
    for _ in range(200):
        _, result = exchange(pool, "c/r/plain", (50, 6))
        result.release()
    assert all(note["kept_are_unchanged"] for note in notes())
    assert sum(note["error_signal"] is not None for note in notes()) > 200


@pytest.mark.parametrize("way", ["c-order", "float64", "other-size", "first-one-freed"])
def test_an_error_signal_outside_the_ring_is_copied(sprint, way):
    pool, notes = sprint
    _, result = exchange(pool, f"c/r/{way}")
    np.testing.assert_array_equal(result.error_signal, 2 * np.arange(60, dtype=np.float32).reshape(10, 6))
    result.release()
    # and the next one lands again
    _, result = exchange(pool, "c/r/plain")
    assert notes()[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
    result.release()


def test_a_skipped_segment_leaves_nothing_in_the_ring(sprint):
    pool, notes = sprint
    for _ in range(100):
        _, result = exchange(pool, "c/r/discarded", (1000, 6))
        assert result.skipped
    _, result = exchange(pool, "c/r/plain", (10000, 6))
    assert notes()[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
    result.release()
