"""Sprint's Python forks while it computes: the fork neither answers nor ends anything in Sprint's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmbridge

NAMES = ["c/s1", "c/s2", "c/s3"]


@pytest.mark.parametrize(
    ("way", "how"),
    [
        *((way, how) for way in ("loop", "iterate") for how in ("exits", "raises", "returns", "skips")),
        ("layer", "exits"),
        ("layer", "returns"),
    ],
)
def test_a_fork_of_sprint_leaves_the_segments_to_sprint(
    sprint_env: Any, way: str, how: str, sprint_log: Callable[[], list[str]]
) -> None:
    code = 0 if how == "exits" else 1
    options = sprint_env.sprint_file(
        "forking", {"way": way, "how": how}, use_python_segment_order=way != "loop"
    )
    with shmbridge.SprintInstancePool(**options) as pool:
        pid = pool.stats().children[0].pid
        for _ in range(2):
            posteriors = np.ones((3, len(NAMES), 4), np.float32)
            loss, error_signal = pool.get_batch_loss_and_error_signal(posteriors, [3] * len(NAMES), NAMES)
            assert (loss == 1.5).all()
            assert (error_signal == 2).all()
        assert pool.stats().children[0].pid == pid
    assert sprint_env.seen()["codes"] == [code] * 2 * len(NAMES)
    assert any("is a fork" in line for line in sprint_log()) == (code == 1)
