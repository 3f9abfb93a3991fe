"""The batch that all ways compute, and the nn-trainer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples import rasr

from .in_sprint import posteriors_of

Array = np.ndarray[Any, np.dtype[Any]]

# The pool sets these for its children, so all nn-trainers get them (docs/architecture.md).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass(frozen=True)
class Work:
    """A batch of segments of equal length with different posteriors.

    Attributes:
        nn_trainer: path of the executable.
        env: additional environment variables of the nn-trainer.
        files: corpus and configs.
        names: full segment names.
        posteriors: (time,batch,label) float32.
        lengths: (batch,).
    """

    nn_trainer: str
    env: dict[str, str]
    files: rasr.Files
    names: Sequence[str]
    posteriors: Array
    lengths: Array

    @property
    def frames(self) -> int:
        """Return the length of each segment."""
        return len(self.posteriors)

    @property
    def labels(self) -> int:
        """Return the label dimension."""
        return int(self.posteriors.shape[2])

    @property
    def whole_env(self) -> dict[str, str]:
        """Return the environment of the nn-trainer: this process's and `env`."""
        return {**os.environ, **self.env}


def prepare(
    nn_trainer: str,
    pythonpath: str,
    folder: Path,
    *,
    labels: int,
    segments: int,
    frames: int,
    arcs: int = 20,
) -> Work:
    """Write the files and generate the posteriors.

    Args:
        nn_trainer: path of the executable.
        pythonpath: where its Python finds numpy, cffi and shmbridge.
        folder: for the files.
        labels: label dimension.
        segments: number of segments in the batch.
        frames: length of each segment.
        arcs: number of arcs of each lattice.

    Raises:
        ValueError: the number of labels, segments or frames is too small.
        OSError: a file cannot be written.
    """
    task = rasr.make_task(labels, segments, frames)
    chosen = [dataclasses.replace(segment, frames=frames) for segment in task.segments[:segments]]
    files = rasr.write(folder, dataclasses.replace(task, segments=(*chosen, *task.segments[segments:])), arcs)
    return Work(
        nn_trainer=nn_trainer,
        env={**_MALLOC, "PYTHONPATH": pythonpath},
        files=files,
        names=[segment.full_name for segment in chosen],
        posteriors=np.stack([posteriors_of(b, frames, labels) for b in range(segments)], axis=1),
        lengths=np.full(segments, frames, np.int32),  # RETURNN's child does not accept int64
    )
