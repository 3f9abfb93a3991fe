"""Lattices that Sprint cannot read or use: what the trainer is told, and what a segment costs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmbridge
from shmbridge.lattices import Lattice, write_htk

sys.path.append(str(Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples import rasr

LABELS = 10
UNREADABLE = pytest.mark.parametrize(
    "content", [None, b"", b"\x00garbage\xff"], ids=["none", "empty", "bytes"]
)
MISLEADING = ("no segment notification", "not asked for posteriors")


class Task:
    """Files of a task, the first of whose lattices a test replaces."""

    def __init__(self, folder: Path) -> None:
        self.files = rasr.write(folder, rasr.make_task(labels=LABELS, segments=3, frames=30))
        segments = self.files.task.segments[:2]
        self.names = [segment.full_name for segment in segments]
        self.lengths = [segment.frames for segment in segments]
        self.lattice = self.files.folder / "lattices" / f"{self.names[0]}.lat"

    def pool(self, *sprint: str, **more: Any) -> shmbridge.SprintInstancePool:
        options = self.files.options("mmi")
        options["sprint_config"] += [f"--*.{option}" for option in sprint]
        return shmbridge.SprintInstancePool(
            [sys.executable, "-m", "shmbridge.refsprint.lattice_processor"], **options, **more
        )

    def replace(self, content: bytes | None) -> None:
        self.lattice.unlink()
        if content is not None:
            self.lattice.write_bytes(content)

    def replace_by_chain(self, *words: str, end: float = 0.3) -> None:
        times = np.linspace(0, end, len(words) + 1)
        nodes = range(len(times))
        write_htk(Lattice(times, nodes[:-1], nodes[1:], words), self.lattice)

    def batch(self, pool: shmbridge.SprintInstancePool) -> shmbridge.BatchResult:
        """Send both segments."""
        posteriors = np.full((max(self.lengths), 2, LABELS), -np.log(LABELS), np.float32)
        return pool.get_batch_loss_and_error_signal(posteriors, self.lengths, self.names)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path / "files")


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shmbridge")


def warning_of(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = [
        r.getMessage() for r in caplog.records if r.name == "shmbridge" and r.levelno == logging.WARNING
    ]
    return message


@UNREADABLE
def test_a_lattice_that_cannot_be_read_is_the_reason_of_the_skip(
    task: Task,
    sprint_log: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:
    task.replace(content)
    with task.pool("on-error=ignore") as pool:
        assert task.batch(pool).skipped.tolist() == [True, False]
    assert str(task.lattice) in warning_of(caplog)  # Sprint's own line, not the child's
    said = sprint_log()
    (skipped,) = [line for line in said if "gave no error signal" in line]
    assert "did not begin it: often its lattice or its features cannot be read" in skipped
    assert not [line for line in said if any(hint in line for hint in MISLEADING)]
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 3, errors  # the element of the error


@UNREADABLE
def test_the_end_of_sprint_is_explained_by_the_lattice_first(task: Task, content: bytes | None) -> None:
    task.replace(content)
    with task.pool() as pool, pytest.raises(shmbridge.PeerGoneError) as caught:
        task.batch(pool)
    assert str(task.lattice) in caught.value.reported[1]
    message = str(caught.value)
    assert message.index("it reported:") < message.index(str(task.lattice)) < message.index("last output")


@pytest.mark.parametrize(
    ("end", "word"), [(0.02, "long0"), (0.1, "word0")], ids=["short arc", "ends before the features"]
)
def test_a_lattice_that_does_not_fit_is_the_reason_of_the_skip(
    task: Task, sprint_log: Callable[[], list[str]], end: float, word: str
) -> None:
    words = [word.orthography for word in task.files.task.segments[0].words]
    task.replace_by_chain(*words, end=end)
    with task.pool() as pool:
        assert task.batch(pool).skipped.tolist() == [True, False]
    (skipped,) = [line for line in sprint_log() if "gave no error signal" in line]
    assert "too few frames for its words, or its lattice does not fit" in skipped
    assert not [line for line in sprint_log() if any(hint in line for hint in MISLEADING)]


ENDS = {
    "no reference": (["word1"], "no path has the reference"),
    "unknown word": (["no-such-word"], "no path consists of words of the lexicon"),
    "no arcs": ([], "no path consists of words of the lexicon"),
}


@pytest.mark.parametrize("on_error", ["immediate-exit", "ignore"])
@pytest.mark.parametrize("case", ENDS)
def test_a_lattice_without_its_reference_ends_sprint(task: Task, case: str, on_error: str) -> None:
    words, reason = ENDS[case]
    task.replace_by_chain(*words)
    with task.pool(f"on-error={on_error}") as pool, pytest.raises(shmbridge.PeerGoneError) as caught:
        task.batch(pool)
    assert caught.value.exit_code == 1
    assert caught.value.segments[0] == task.names[0]
    assert "cannot calculate best" in caught.value.reported[1]
    assert reason in caught.value.reported[1]


@pytest.mark.parametrize("max_restarts", [1, 2])
def test_skip_fatal_segments_skips_a_lattice_without_its_reference(task: Task, max_restarts: int) -> None:
    """Each time, the segment ends Sprint, and so does each of its retries."""
    task.replace_by_chain("word1")
    with task.pool(max_restarts=max_restarts, skip_fatal_segments=True) as pool:
        for times in (1, 2):
            result = task.batch(pool)
            assert result.skipped.tolist() == [True, False]
            assert result.loss[0] == np.inf
            assert not result.error_signal[:, 0].any()
            assert result.error_signal[:, 1].any()
            assert pool.stats().restarts == times * (1 + max_restarts)
