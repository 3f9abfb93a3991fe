"""No byte is copied by us: what the parent writes is what Sprint reads, and the other way round."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import shmbridge

# A Sprint that does nothing but call: it notes where the matrices lie, and keeps what it is told to keep.
SPRINT = """
import importlib, json, sys
import numpy as np

options = dict(a[4:].split("=", 1) for a in sys.argv[1:] if a.startswith("--*."))
sys.path.insert(0, options["pymod-path"])
module = importlib.import_module(options["pymod-name"])
notes = open(sys.argv[-1], "a", buffering=1)
kept = []

def offset_in_shared_memory(array):
    address = array.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        if start <= address < end:
            return address - start + int(line.split()[2], 16) if "/dev/shm/" in line else None

def callback(command, posteriors=None, segment_name=None, **_):
    if command != "calculate_criterion":
        return "a b "
    way = segment_name.split("/")[-1]
    if way == "discarded":
        return None, None
    if way == "other-size":
        np.empty((3, 5), np.float32)
        error_signal = np.asfortranarray(np.array(posteriors * 1.0))
    elif way == "first-one-freed":
        first = np.empty(posteriors.shape, np.float32, order="F"); first[...] = 1; del first
        error_signal = np.empty(posteriors.shape, np.float32, order="F")
    elif way == "c-order":
        error_signal = np.empty(posteriors.shape, np.float32)
    elif way == "float64":
        error_signal = np.empty(posteriors.shape, np.float64, order="F")
    else:
        error_signal = np.empty(posteriors.shape, np.float32, order="F")
    error_signal[...] = posteriors * 2
    if way == "kept":
        kept.append((error_signal, error_signal.copy()))
    notes.write(json.dumps({
        "name": segment_name, "posteriors": offset_in_shared_memory(posteriors),
        "error_signal": offset_in_shared_memory(error_signal), "strides": posteriors.strides,
        "kept_are_unchanged": all(bool((a == b).all()) for a, b in kept),
    }) + "\\n")
    return 1.5, error_signal

control = module.init(name="Sprint.PythonControl", sprint_unit="NnTrainer.pythonControl", reference=object(),
                      callback=callback, version_number=5, config=options["pymod-config"])
control.run_control_loop(callback=callback)
control.exit()
"""


def offset_in_shared_memory(array) -> int | None:
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        start, end = (int(x, 16) for x in fields[0].split("-"))
        if start <= address < end:
            return address - start + int(fields[2], 16) if "/dev/shm/" in line else None
    return None


@pytest.fixture
def sprint(tmp_path):
    """A pool of that one Sprint, and what it has noted."""
    (tmp_path / "sprint.py").write_text(SPRINT)
    notes = tmp_path / "notes"
    notes.write_text("")
    with shmbridge.SprintSubprocessInstance(
        sprint_exec_path=[sys.executable, str(tmp_path / "sprint.py")],
        sprint_config=[str(notes)],
        use_python_segment_order=False,
        ring_size=1 << 20,
    ) as pool:
        yield pool, lambda: [json.loads(line) for line in notes.read_text().splitlines()]


def exchange(pool, name, shape=(10, 6)):
    claim = pool.claim(name, *shape)
    claim.posteriors[...] = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    where = offset_in_shared_memory(claim.posteriors)
    return where, claim.send().result()


def test_sprint_reads_where_the_parent_wrote_and_the_parent_where_sprint_wrote(sprint):
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


def test_an_error_signal_that_sprint_keeps_stays_as_it_was(sprint):
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
def test_what_did_not_land_in_the_ring_is_copied(sprint, way):
    pool, notes = sprint
    _, result = exchange(pool, f"c/r/{way}")
    np.testing.assert_array_equal(result.error_signal, 2 * np.arange(60, dtype=np.float32).reshape(10, 6))
    result.release()
    # and the next one lands again
    _, result = exchange(pool, "c/r/plain")
    assert notes()[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
    result.release()


def test_a_discarded_segment_leaves_nothing_in_the_ring(sprint):
    pool, notes = sprint
    for _ in range(100):
        _, result = exchange(pool, "c/r/discarded", (1000, 6))
        assert result.skipped
    _, result = exchange(pool, "c/r/plain", (10000, 6))
    assert notes()[-1]["error_signal"] == offset_in_shared_memory(result.error_signal)
    result.release()
