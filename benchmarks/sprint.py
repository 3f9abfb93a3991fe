"""How the minimal Sprint is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from shmbridge import SprintInstancePool

from .minimal_sprint import CRITERION_VARIABLE

MINIMAL_SPRINT = Path(__file__).with_name("minimal_sprint.py")


def open_pool(record_bytes: int, *, records: int = 2, num_instances: int = 1, criterion: str = "") -> Any:
    """A pool of minimal Sprints.

    Args:
        record_bytes: of the largest matrix.
        records: how many such have to fit into a ring.
        num_instances: children.
        criterion: what it does with its time: see minimal_sprint.

    Returns:
        A SprintInstancePool.
    """
    return SprintInstancePool(
        sprint_exec_path=[sys.executable, str(MINIMAL_SPRINT)],
        use_python_segment_order=False,
        ring_size=records * (record_bytes + 4096) + (1 << 20),
        num_instances=num_instances,
        start_timeout=60.0,
        env={**os.environ, CRITERION_VARIABLE: criterion},
    )
