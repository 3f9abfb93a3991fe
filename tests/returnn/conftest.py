"""RETURNN with refsprint as its Sprint, and an environment in which RETURNN's own pipes work.

The corpus and the checks for leftovers are those of tests/bridge.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from returnn_env import Returnn

import shmbridge.returnn
from support.fixtures import sprint_env, watch_over_the_test
from support.sprint_env import SprintEnv

HERE = Path(__file__).resolve().parent
_TIMEOUT = 120

__all__ = ["sprint_env", "watch_over_the_test"]


@pytest.fixture
def returnn(sprint_env: SprintEnv) -> Iterator[Returnn]:
    """RETURNN with shmbridge.returnn installed."""
    from returnn.sprint.error_signals import SprintInstancePool

    shmbridge.returnn.install(ring_size=1 << 20, env=sprint_env.env)
    yield Returnn(sprint_env)
    shmbridge.returnn.uninstall()
    SprintInstancePool.global_instances.clear()


@pytest.fixture(scope="session")
def numpy_for_returnn(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders that must be on the path for RETURNN's own pool.

    The pool uses the binary mode of numpy.fromstring, which numpy 2.3 removed. If the tests run with such a
    numpy, an older one is installed into a separate folder.
    """
    if tuple(int(part) for part in np.__version__.split(".")[:2]) < (2, 3):
        return []
    folder = tmp_path_factory.mktemp("numpy")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", str(folder)]
    done = subprocess.run([*pip, "numpy==2.2.6"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        assert sys.version_info >= (3, 14), done.stderr  # it has no older numpy
        pytest.skip("RETURNN's own pool needs numpy < 2.3, which does not exist for this Python")
    return [str(folder)]


@pytest.fixture
def in_a_process(
    sprint_env: SprintEnv, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Run a script of this folder with a task, and return the arrays that it writes."""

    def run(script: str, task: dict[str, Any], path: Sequence[str] = ()) -> dict[str, Any]:
        task_path, results_path = sprint_env.path / "task.json", sprint_env.path / "results.npz"
        results_path.unlink(missing_ok=True)
        task_path.write_text(json.dumps(task), encoding="utf-8")
        env = {**sprint_env.env, "PYTHONPATH": os.pathsep.join([*path, sprint_env.env["PYTHONPATH"]])}
        # RETURNN leaves compiled files in the folder for temporary files.
        env["TMPDIR"] = str(tmp_path_factory.mktemp("returnn"))
        # A file, not a pipe: RETURNN's children inherit its standard output, and may outlive it.
        with open(sprint_env.path / "output", "w+", encoding="utf-8", errors="replace") as output:
            command = [sys.executable, str(HERE / script), str(task_path), str(results_path)]
            done = subprocess.run(
                command, env=env, stdout=output, stderr=output, check=False, timeout=_TIMEOUT
            )
            output.seek(0)
            text = output.read()
        print(text)
        assert done.returncode == 0, text[-3000:]
        with np.load(results_path) as results:
            return dict(results)

    return run
