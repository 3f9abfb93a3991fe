"""Nothing is left of a segment in Sprint's process: no reference, no object, no memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_env import HostSprintEnv

import shmbridge

SEGMENTS = 4000
EVERY = 500
WAYS = ["iterate", "trainer", "trainer, layer on top", "segmentwise trainer", "loop"]


def measures(sprint_env: HostSprintEnv) -> list[dict[str, Any]]:
    return [note for note in sprint_env.notes() if "segments" in note]


def assert_nothing_grows(notes: list[dict[str, Any]]) -> None:
    """Compare the third measurement with the last: before it, modules are imported and caches fill.

    A leak leaves an object, or a block, of each segment or of some of them. Without one, a handful remains.
    Before it counts, the host empties Python's own cache, which grows by chance (notes.c).
    """
    assert len(notes) >= 5
    first, last = notes[2], notes[-1]
    segments = last["segments"] - first["segments"]
    assert last["objects"] - first["objects"] < segments / 100, notes
    assert last["blocks"] - first["blocks"] < segments / 100, notes
    # Memory outside of Python's allocator: a matrix, of which each segment has some, is large enough to show.
    assert last["kb"] - first["kb"] < 1024, notes


@pytest.fixture
def many(sprint_env: HostSprintEnv) -> Any:
    """The sprint_env with a hundred segments, one of them of some size, and one that is discarded."""
    names, short = sprint_env.NAMES, sprint_env.SHORT
    sprint_env.segments = {f"{name}{i}": sprint_env.segments[name] for i in range(16) for name in names}
    sprint_env.segments.update({"corpus/rec/long": ("ab", 500), short: ("abababab", 2)})
    sprint_env.write_corpus()
    return sprint_env


def exchange(sprint_env: HostSprintEnv, pool: shmbridge.SprintInstancePool, fails: bool = False) -> None:
    names = list(sprint_env.segments)
    lengths = sprint_env.frames(names)
    posteriors = sprint_env.posteriors(lengths)
    for _ in range(SEGMENTS // len(names) + 1):
        try:
            pool.get_batch_loss_and_error_signal(posteriors, np.array(lengths), names)
        except shmbridge.RemoteError:
            assert fails
        else:
            assert not fails


@pytest.mark.parametrize("way", WAYS)
def test_thousands_of_segments_leave_no_reference_and_no_memory(many: Any, way: str) -> None:
    with many.pool(way, f"host.measure-every={EVERY}", ring_size=1 << 22) as pool:
        exchange(many, pool)
        assert pool.stats().skipped > 0
    notes = measures(many)
    assert [note["held_elsewhere"] for note in notes] == [0] * len(notes)
    assert_nothing_grows(notes)


@pytest.mark.parametrize("way", ["iterate", "loop"])
@pytest.mark.parametrize("answer", ["an exception", "another shape", "nothing"])
def test_thousands_of_segments_that_fail_leave_no_memory(many: Any, way: str, answer: str) -> None:
    with many.pool(way, f"host.answer={answer}", f"host.measure-every={EVERY}", ring_size=1 << 22) as pool:
        exchange(many, pool, fails=True)
        assert pool.stats().failed > SEGMENTS / 2
    assert_nothing_grows(measures(many))


def test_thousands_of_scored_segments_leave_no_reference_and_no_memory(many: Any) -> None:
    names = list(many.segments)
    # A Sprint goes through its corpus once.
    many.segments = {
        f"{name}/{i}": many.segments[name] for i in range(SEGMENTS // len(names) + 1) for name in names
    }
    many.write_corpus()
    with many.pool("score", f"host.measure-every={EVERY}", ring_size=1 << 22) as pool:
        pool.serve_scores(lambda features: np.zeros((len(features), many.LABELS)))
        assert pool.stats().scored == len(many.segments)
    notes = measures(many)
    assert [note["held_elsewhere"] for note in notes] == [0] * len(notes)
    assert_nothing_grows(notes)


def test_thousands_of_automata_leave_no_memory(many: Any) -> None:
    names = list(many.segments)
    with many.pool("loop", f"host.measure-every={EVERY}") as pool:
        for _ in range(SEGMENTS // len(names) + 1):
            pool.get_automata_for_batch(names)
    assert_nothing_grows(measures(many))
