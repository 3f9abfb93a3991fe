"""The batch that all ways compute, and the nn-trainer that computes it."""

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

# What the pool sets for its children, so that all have it (docs/architecture.md).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass(frozen=True)
class Work:
    """A batch of segments of the same length, all with posteriors of their own.

    Attributes:
        nn_trainer: its path.
        env: variables that are set for it.
        files: corpus and configs.
        names: the full segment names.
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
        """The length of each segment."""
        return len(self.posteriors)

    @property
    def labels(self) -> int:
        """The label dimension."""
        return int(self.posteriors.shape[2])

    @property
    def whole_env(self) -> dict[str, str]:
        """The environment of the nn-trainer: this process's, and `env`."""
        return {**os.environ, **self.env}


def prepare(
    nn_trainer: str, pythonpath: str, folder: Path, *, labels: int, segments: int, frames: int
) -> Work:
    """Write the files and make up the posteriors.

    Args:
        nn_trainer: its path.
        pythonpath: where its Python finds numpy, cffi and shmbridge.
        folder: for the files.
        labels: the label dimension.
        segments: of the batch.
        frames: of each segment.

    Raises:
        ValueError: there are too few labels, segments or frames.
        OSError: a file cannot be written.
    """
    task = rasr.make_task(labels, segments, frames)
    chosen = [dataclasses.replace(segment, frames=frames) for segment in task.segments[:segments]]
    files = rasr.write(folder, dataclasses.replace(task, segments=(*chosen, *task.segments[segments:])))
    return Work(
        nn_trainer=nn_trainer,
        env={**_MALLOC, "PYTHONPATH": pythonpath},
        files=files,
        names=[segment.full_name for segment in chosen],
        posteriors=np.stack([posteriors_of(b, frames, labels) for b in range(segments)], axis=1),
        lengths=np.full(segments, frames, np.int32),  # RETURNN's child takes no int64
    )
