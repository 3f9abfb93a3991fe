"""Fixtures that run the generated configs with refsprint and, if available, with RASR's nn-trainer."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

import shmbridge

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # examples/ is not installed

import ctc_reference  # noqa: E402
from rasr_programs import NN_TRAINER, NO_NN_TRAINER, SAFETY_NET, environment  # noqa: E402

from examples import rasr  # noqa: E402

SMALL = {"labels": 8, "segments": 8, "frames": 40}
LARGE = {"labels": 12000, "segments": 4, "frames": 1000}


_HAS_CTC: dict[str, bool] = {}  # by program, once it was asked
NO_CTC = "nn-trainer has no CTC criterion: RASR removed it in April 2025 (docs/lattices.md)"


class Sprint:
    """One of the two programs, with its generated files."""

    def __init__(self, name: str, files: rasr.Files) -> None:
        self.name = name
        self.files = files
        self.task = files.task
        self.is_rasr = name == "nn-trainer"
        self.names = [segment.full_name for segment in self.task.segments[:-1]]
        self.too_short = self.task.segments[-1].full_name
        self.labels = len(self.task.phonemes)

    def has_ctc(self) -> bool:
        """Ask the program: one that does not know the criterion returns the loss 0."""
        if self.name not in _HAS_CTC:
            names = self.names[:1]
            try:
                with self.pool("loop") as pool:
                    self.loss_and_error_signal(pool, names, self.posteriors(names))
                _HAS_CTC[self.name] = True
            except shmbridge.CriterionError:
                _HAS_CTC[self.name] = False
        return _HAS_CTC[self.name]

    def with_ctc(self) -> Sprint:
        """Return this program. Skip the test if it has no CTC criterion."""
        if not self.has_ctc():
            pytest.skip(NO_CTC)
        return self

    # --- pools

    def pool(self, way: str, *sprint: str, **more: Any) -> shmbridge.SprintInstancePool:
        """Return a pool for one of the ways. `sprint` are further options for Sprint, without "--*."."""
        options = self.files.options(way)
        options["sprint_config"] += [f"--*.{option}" for option in sprint]
        if self.is_rasr:
            options.update(sprint_exec_path=NN_TRAINER, env=environment())
        else:
            options["sprint_exec_path"] = [sys.executable, "-m", "shmbridge.refsprint"]
        options.update(exit_timeout=SAFETY_NET, start_timeout=SAFETY_NET, ring_size=1 << 28)
        return shmbridge.SprintInstancePool(**{**options, **more})

    def executable(self, folder: Path) -> tuple[str, str]:
        """Return the path of the program as a single file, and the PYTHONPATH that it needs."""
        if self.is_rasr:
            return str(NN_TRAINER), environment()["PYTHONPATH"]
        script = folder / "refsprint"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m shmbridge.refsprint "$@"\n')
        script.chmod(0o755)
        return str(script), str(Path(shmbridge.__file__).resolve().parents[1])

    # --- batches

    def lengths(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self.task.segment(name).frames for name in names])

    def posteriors(self, names: Sequence[str], seed: int = 0, labels: Optional[int] = None) -> np.ndarray:
        """Return log posteriors (time,batch,label), with 1e30 beyond each segment's length."""
        lengths = self.lengths(names)
        shape = (max(lengths), len(names), labels or self.labels)
        logits = np.random.default_rng(seed).standard_normal(shape, np.float32)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for b, length in enumerate(lengths):
            logits[length:, b] = 1e30
        return logits

    def loss_and_error_signal(self, pool: Any, names: Sequence[str], posteriors: np.ndarray) -> Any:
        return pool.get_batch_loss_and_error_signal(posteriors, self.lengths(names), names)

    def check(self, pool: Any, names: Sequence[str], seed: int = 0) -> None:
        """Assert that a batch of these segments has the losses and error signals of CTC."""
        posteriors = self.posteriors(names, seed)
        loss, error_signal = self.loss_and_error_signal(pool, names, posteriors)
        self.compare(loss, error_signal, posteriors, names)

    def compare(self, loss: Any, error_signal: Any, posteriors: np.ndarray, names: Sequence[str]) -> None:
        """Assert that the losses agree to 1e-4 relative, and the error signals to 1e-4 or float32 precision.

        RASR sums logarithms in float32, so that the relative error of an occupation is the absolute error of
        the loss: 0.001 per rounding for a loss of 9000. For labels that do not occur in the segment, the
        error signal is the posterior, which is exact.
        """
        assert loss.dtype == error_signal.dtype == np.float32
        assert error_signal.shape == posteriors.shape
        for b, (name, length) in enumerate(zip(names, self.lengths(names))):
            expected_loss, expected_error = self.expected(name, posteriors[:length, b])
            np.testing.assert_allclose(loss[b], expected_loss, rtol=1e-4, err_msg=name)
            tolerance = max(1e-4, 4 * float(np.spacing(np.float32(expected_loss))))
            np.testing.assert_allclose(
                error_signal[:length, b], expected_error, rtol=1e-3, atol=tolerance, err_msg=name
            )
            occurring = {label for _, labels in self.task.label_sequences(name) for label in labels}
            absent = sorted({*range(error_signal.shape[2])} - occurring - {self.task.blank})
            np.testing.assert_allclose(
                error_signal[:length, b, absent],
                expected_error[:, absent],
                rtol=1e-4,
                atol=1e-7,
                err_msg=name,
            )
            assert absent
            assert not error_signal[length:, b].any()

    def expected(self, name: str, posteriors: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss and the error signal of one segment, computed by ctc_reference."""
        return ctc_reference.loss_and_error_signal(
            posteriors, self.task.label_sequences(name), self.task.blank
        )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., rasr.Files]:
    """A function that returns the files of a task. It writes those of each size once."""
    written: dict[Any, rasr.Files] = {}

    def get(**size: int) -> rasr.Files:
        key = tuple(size.items())
        if key not in written:
            written[key] = rasr.write(tmp_path_factory.mktemp("rasr"), rasr.make_task(**size))
        return written[key]

    return get


@pytest.fixture(
    params=[
        "refsprint",
        pytest.param("nn-trainer", marks=pytest.mark.skipif(not NN_TRAINER, reason=NO_NN_TRAINER)),
    ]
)
def any_sprint(request: pytest.FixtureRequest, files: Callable[..., rasr.Files]) -> Sprint:
    """Each program with the small task."""
    return Sprint(request.param, files(**SMALL))


@pytest.fixture
def sprint(any_sprint: Sprint) -> Sprint:
    """Each program that has the CTC criterion, with the small task."""
    return any_sprint.with_ctc()


@pytest.fixture
def any_nn_trainer(files: Callable[..., rasr.Files]) -> Sprint:
    """nn-trainer with the small task."""
    return _nn_trainer(files(**SMALL))


@pytest.fixture
def nn_trainer(any_nn_trainer: Sprint) -> Sprint:
    """nn-trainer with the small task and the CTC criterion."""
    return any_nn_trainer.with_ctc()


@pytest.fixture
def any_large_nn_trainer(files: Callable[..., rasr.Files]) -> Sprint:
    """nn-trainer with 1000 frames and 12000 labels."""
    return _nn_trainer(files(**LARGE))


@pytest.fixture
def large_nn_trainer(any_large_nn_trainer: Sprint, any_nn_trainer: Sprint) -> Sprint:
    """nn-trainer with 1000 frames, 12000 labels and the CTC criterion."""
    any_nn_trainer.with_ctc()
    return any_large_nn_trainer


def _nn_trainer(files: rasr.Files) -> Sprint:
    if not NN_TRAINER:
        pytest.skip(NO_NN_TRAINER)
    return Sprint("nn-trainer", files)


@pytest.fixture
def sprint_log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """A function that returns the lines that Sprint has written; all of them after its pool is closed."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "shmbridge.sprint"]


@pytest.fixture(autouse=True)
def _check_hangs_and_leaks(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Show Sprint's output if a test fails; fail if a test hangs or leaves a file in /dev/shm."""
    caplog.set_level("INFO", logger="shmbridge")
    # Sprint writes files (logs, core files) to the current folder, which must not be the repository.
    monkeypatch.chdir(tmp_path)

    def hangs(_number: int, _frame: Any) -> None:
        raise AssertionError(f"the test hangs: it took more than {SAFETY_NET} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SAFETY_NET)
    shm = _names_in_shm()
    try:
        with _no_core_files():
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert _names_in_shm() <= shm


def _names_in_shm() -> set[str]:
    # The pattern of posix_ipc's names. Other programs on this machine have other files.
    return {name for name in os.listdir("/dev/shm") if re.fullmatch("[a-z]+", name)}


@contextlib.contextmanager
def _no_core_files() -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
