"""RETURNN, its options for a Sprint that is refsprint, and an environment in which its own pipes work.

What Sprint reads, and the watch for what is left behind, are those of tests/bridge.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmbridge.returnn
from support.fixtures import sprint_env, watch_over_the_test
from support.sprint_env import SprintEnv

HERE = Path(__file__).resolve().parent
_TIMEOUT = 120

__all__ = ["sprint_env", "watch_over_the_test"]


class Returnn:
    """What a RETURNN user writes, for the corpus of a SprintEnv."""

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
        """RETURNN's, as its losses get it."""
        from returnn.sprint.error_signals import SprintInstancePool

        return SprintInstancePool.get_global_instance(self.sprint_opts(way, **more))

    def check(self, pool: Any, names: Sequence[str], tags: Any = None, lengths_dtype: str = "int32") -> None:
        """One batch with these segments; loss and error signal are right."""
        lengths = self.sprint_env.frames(names)
        posteriors = self.sprint_env.posteriors(lengths)
        loss, error_signal = pool.get_batch_loss_and_error_signal(
            posteriors, np.array(lengths, lengths_dtype), names if tags is None else tags
        )
        self.sprint_env.compare(loss, error_signal, posteriors, lengths, names)


@pytest.fixture
def returnn(sprint_env: Any) -> Iterator[Returnn]:
    """RETURNN with shmbridge.returnn installed."""
    from returnn.sprint.error_signals import SprintInstancePool

    shmbridge.returnn.install(ring_size=1 << 20, env=sprint_env.env)
    yield Returnn(sprint_env)
    shmbridge.returnn.uninstall()
    SprintInstancePool.global_instances.clear()


@pytest.fixture(scope="session")
def numpy_for_returnn(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What has to be on the path for RETURNN's own pool, which reads with numpy.fromstring's binary mode.

    numpy 2.3 took that away. Where the tests run with such a numpy, the last one before it is installed
    into a folder of its own.
    """
    if tuple(int(part) for part in np.__version__.split(".")[:2]) < (2, 3):
        return []
    folder = tmp_path_factory.mktemp("numpy")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", str(folder)]
    done = subprocess.run([*pip, "numpy==2.2.6"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        assert sys.version_info >= (3, 14), done.stderr  # for which there is none
        pytest.skip("there is no numpy older than 2.3 for this Python: RETURNN's own pool cannot be run")
    return [str(folder)]


@pytest.fixture
def in_a_process(sprint_env: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Run a script of this folder, with a task for it; returns the arrays that it writes."""

    def run(script: str, task: dict[str, Any], path: Sequence[str] = ()) -> dict[str, Any]:
        task_path, results_path = sprint_env.path / "task.json", sprint_env.path / "results.npz"
        results_path.unlink(missing_ok=True)
        task_path.write_text(json.dumps(task), encoding="utf-8")
        env = {**sprint_env.env, "PYTHONPATH": os.pathsep.join([*path, sprint_env.env["PYTHONPATH"]])}
        # RETURNN keeps what it compiles in the folder for temporary files: that is no matter of ours.
        env["TMPDIR"] = str(tmp_path_factory.mktemp("returnn"))
        # Into a file: RETURNN's children have its standard output too, and may outlive it.
        with open(sprint_env.path / "output", "w+", encoding="utf-8", errors="replace") as output:
            command = [sys.executable, str(HERE / script), str(task_path), str(results_path)]
            done = subprocess.run(
                command, env=env, stdout=output, stderr=output, check=False, timeout=_TIMEOUT
            )
            output.seek(0)
            said = output.read()
        print(said)
        assert done.returncode == 0, said[-3000:]
        with np.load(results_path) as results:
            return dict(results)

    return run
