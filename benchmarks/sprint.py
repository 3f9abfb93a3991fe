"""Start the minimal Sprint."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from shmbridge import SprintInstancePool

from .minimal_sprint import CRITERION_VARIABLE

MINIMAL_SPRINT = Path(__file__).with_name("minimal_sprint.py")


def open_pool(record_bytes: int, *, records: int = 2, num_instances: int = 1, criterion: str = "") -> Any:
    """Start a pool of minimal Sprints.

    Args:
        record_bytes: size of the largest matrix.
        records: number of such matrices that must fit into a ring.
        num_instances: number of children.
        criterion: setting of its duration (minimal_sprint.py).

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
