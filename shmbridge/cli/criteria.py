"""The doctor's checks of a Sprint through the bridge: its criteria and callbacks, and what to use."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shmbridge.errors import BridgeTimeoutError, CriterionError, ShmbridgeError

from . import probe_task
from .checks import FAILED, OK, WARNING, Check

__all__ = ["Probed", "check_criteria"]

_LATTICE_UNIT = "SegmentwiseNnTrainer"
_TOLERANCE = 1e-3  # relative, for the loss


@dataclasses.dataclass(frozen=True)
class Probed:
    """An executable that called Python.

    Attributes:
        path: of the executable, or a name on PATH.
        files: the folder with the files of probe_task.
        user: the user's own options for it.
        timeout: seconds for each step.
        unit: the part of Sprint that called init.
        commands: the commands of the callback that it knows.
    """

    path: str
    files: Path
    user: list[str]
    timeout: float
    unit: str
    commands: list[str]

    @property
    def has_lattices(self) -> bool:
        """Whether it is lattice-processor."""
        return self.unit == _LATTICE_UNIT

    def pool(self, criterion: str) -> Any:
        """Start a pool of one child, with a criterion of probe_task."""
        from shmbridge.parent import SprintInstancePool

        return SprintInstancePool(
            sprint_exec_path=self.path,
            sprint_config=[*probe_task.options(self.files, criterion), *self.user],
            use_python_segment_order=self.has_lattices,
            ring_size=1 << 16,
            start_timeout=self.timeout,
            exit_timeout=self.timeout,
            segment_timeout=self.timeout,
        )


def check_criteria(sprint: Probed) -> Iterator[Check]:
    """Check the start of a pool, the criteria, and the commands of the callback."""
    hello = _hello(sprint)
    yield hello
    if hello.status == FAILED:
        return
    if sprint.has_lattices:
        yield _criterion(sprint, "MMI")
        yield _criterion(sprint, "ME")
        return
    yield _criterion(sprint, "CTC")
    yield _automata(sprint)
    known = [command for command in sprint.commands if command not in ("version", "version_number", "help")]
    yield Check(f"{sprint.path}: callback", OK, f"has {', '.join(known)}")


def _hello(sprint: Probed) -> Check:
    def say() -> Check:
        with sprint.pool("MMI" if sprint.has_lattices else "CTC") as pool:
            seconds = pool.stats().start_seconds
        return Check(name, OK, f"completed {seconds:.2f} s after the start")

    name = f"{sprint.path}: hello"
    return _attempt(name, say)


def _criterion(sprint: Probed, criterion: str) -> Check:
    """Compute the criterion of one segment, whose loss is known."""
    import numpy as np

    name = f"{sprint.path}: {criterion}"

    def compute() -> Check:
        posteriors = probe_task.log_posteriors()[:, np.newaxis]
        try:
            with sprint.pool(criterion) as pool:
                result = pool.get_batch_loss_and_error_signal(
                    posteriors, [probe_task.FRAMES], [probe_task.SEGMENT]
                )
        except CriterionError:
            return Check(name, WARNING, "no: the loss and the error signal are 0", _WITHOUT_CTC)
        expected = probe_task.LOSSES[criterion]
        loss = float(result.loss[0])
        found = f"the loss of a known segment is {loss:.6g}"
        if not math.isclose(loss, expected, rel_tol=_TOLERANCE):
            advice = "see its output with --verbose, and the options in --sprint-config"
            return Check(name, FAILED, f"{found}; it must be {expected:.6g}", advice)
        return Check(name, OK, f"{found}, as it must be; call get_batch_loss_and_error_signal")

    return _attempt(name, compute)


_WITHOUT_CTC = (
    "use get_automata_for_batch and compute the full sum in the trainer, or RASR up to commit b6ff1a89; "
    "lattice criteria are in lattice-processor (docs/lattices.md)"
)


def _automata(sprint: Probed) -> Check:
    name = f"{sprint.path}: automata"

    def ask() -> Check:
        with sprint.pool("CTC") as pool:
            edges, weights, _ = pool.get_automata_for_batch([probe_task.SEGMENT])
        found = f"that of a known segment has {len(weights)} edges; call get_automata_for_batch"
        return Check(name, OK if edges.size else FAILED, found)

    return _attempt(name, ask)


def _attempt(name: str, step: Callable[[], Check]) -> Check:
    try:
        return step()
    except BridgeTimeoutError as error:
        return Check(name, FAILED, str(error), "raise --timeout, and check what the process does meanwhile")
    except ShmbridgeError as error:
        advice = "see the last output; --verbose shows all of Sprint's output"
        return Check(name, FAILED, str(error), advice)
