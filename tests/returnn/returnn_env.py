"""The settings of a RETURNN user."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from support.sprint_env import SprintEnv


class Returnn:
    """The settings of a RETURNN user, for the corpus of a SprintEnv."""

    def __init__(self, sprint_env: SprintEnv) -> None:
        self.sprint_env = sprint_env
        self.executable = sprint_env.executable(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m shmbridge.refsprint "$@"\n'
        )
        self.names = [*sprint_env.NAMES, sprint_env.SHORT]
        self.lengths = sprint_env.frames(self.names)

    def sprint_config(self, way: str) -> list[str]:
        return list(self.sprint_env.options(way)["sprint_config"])

    def sprint_opts(self, way: str, *sprint: str, **more: Any) -> dict[str, Any]:
        return {
            "sprintExecPath": self.executable,
            "sprintConfigStr": shlex.join([*self.sprint_config(way), *sprint]),
            "usePythonSegmentOrder": way != "loop",
            **more,
        }

    def pool(self, way: str, **more: Any) -> Any:
        """Return RETURNN's pool, as its losses do."""
        from returnn.sprint.error_signals import SprintInstancePool

        return SprintInstancePool.get_global_instance(self.sprint_opts(way, **more))

    def check(self, pool: Any, names: Sequence[str], tags: Any = None, lengths_dtype: str = "int32") -> None:
        """Run a batch of these segments, and check loss and error signal."""
        lengths = self.sprint_env.frames(names)
        posteriors = self.sprint_env.posteriors(lengths)
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            posteriors, np.array(lengths, lengths_dtype), names if tags is None else tags
        )
        self.sprint_env.compare(loss, error_signal, posteriors, lengths, names)
