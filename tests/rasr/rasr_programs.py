"""Where RASR's programs are, and the environment that their Python needs.

SHMBRIDGE_NN_TRAINER is the path of an nn-trainer, SHMBRIDGE_LATTICE_PROCESSOR that of a lattice-processor.
SHMBRIDGE_NN_TRAINER_PYTHONPATH is the path where their embedded Python finds numpy, cffi and shmbridge. The
default is the tests' own packages: then the embedded Python must have the tests' version, and RASR must be
built with a numpy of the tests' major version.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import shmbridge

__all__ = [
    "LATTICE_PROCESSOR",
    "NN_TRAINER",
    "NO_LATTICE_PROCESSOR",
    "NO_NN_TRAINER",
    "SAFETY_NET",
    "environment",
]

NN_TRAINER = os.environ.get("SHMBRIDGE_NN_TRAINER")
LATTICE_PROCESSOR = os.environ.get("SHMBRIDGE_LATTICE_PROCESSOR")
NO_NN_TRAINER, NO_LATTICE_PROCESSOR = (
    f"SHMBRIDGE_{name} is not set; set it to the path of RASR's program (examples/rasr/README.md)"
    for name in ("NN_TRAINER", "LATTICE_PROCESSOR")
)

SAFETY_NET = int(os.environ.get("SHMBRIDGE_TEST_TIMEOUT", "300"))
"""Seconds. Only a hanging test takes this long."""


def environment() -> dict[str, str]:
    """Return the environment of RASR's programs."""
    own = {Path(package.__file__).resolve().parents[1]: None for package in (shmbridge, np)}
    path = os.environ.get("SHMBRIDGE_NN_TRAINER_PYTHONPATH", os.pathsep.join(map(str, own)))
    return {**os.environ, "PYTHONPATH": path}
