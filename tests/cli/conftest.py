"""Runs the command as a user does: as a process, and sees what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest

import shmbridge

PACKAGE_PARENT = str(Path(shmbridge.__file__).resolve().parent.parent)
SAFETY_NET = 120  # seconds; only what hangs takes as long

TRAINER = """
import json, os, sys, time
import numpy as np
import shmbridge
from shmbridge.cli.made_up import PHONEMES, Task
from pathlib import Path

task = Task(6, seed=3)
pools = [
    shmbridge.SprintInstancePool(
        sprint_exec_path=[sys.executable, "-m", "shmbridge.refsprint"],
        sprint_config=task.write(Path(sys.argv[1])),
        num_instances=2,
        ring_size=1 << 20,
        max_restarts=1,
    )
    for _ in range(int(sys.argv[2]))
]
lengths = np.array([len(u.features) for u in task.utterances])
print(json.dumps([os.getpid(), [i.pid for i in pools[0].stats().children], int(lengths[0])]), flush=True)
posteriors = np.full((lengths.max(), len(lengths), len(PHONEMES)), -np.log(len(PHONEMES)), np.float32)
names = [u.name for u in task.utterances]
for line in sys.stdin:
    if line == "batch\\n":
        pools[0].get_batch_loss_and_error_signal(posteriors, lengths, names)
    elif line == "hold\\n":
        held = pools[0].claim(names[0], int(lengths[0]), len(PHONEMES))
        held.posteriors[:] = -1
        held = held.send().result()
    elif line == "fork\\n":
        if os.fork() == 0:
            sys.stdin.read()  # until the test closes it
            os._exit(0)
    elif line == "score\\n":
        folder = sys.argv[1]
        np.savez(f"{folder}/features.npz", **{name: np.ones((2, 5), np.float32) for name in names})
        config = ["action=refsprint-recognition", "feature-dimension=2"]
        config.append(f"python-feature-scorer-output-dimension={len(PHONEMES)}")
        config += [f"corpus.file={folder}/corpus.xml", f"feature-extraction.file={folder}/features.npz"]
        pools[0].close()
        pools[0] = shmbridge.SprintInstancePool(
            sprint_exec_path=[sys.executable, "-m", "shmbridge.refsprint"],
            sprint_config=[f"--*.{option}" for option in config],
            use_python_segment_order=False,
            num_instances=2,
        )
        pools[0].serve_scores(lambda features: np.zeros((len(features), len(PHONEMES))))
    elif line == "close\\n":
        pools[0].close()
    print(json.dumps("done"), flush=True)
"""


class Done(NamedTuple):
    """How a command has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Trainer:
    """A process with pools."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid, self.children, self.frames = self._read()

    def do(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self._read() == "done"

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the trainer ended: see its standard error"
        return json.loads(line)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Done]:
    """Run `shmbridge` with these arguments, in an empty folder."""

    def run(*arguments: object, env: Optional[dict[str, str]] = None, python: tuple[str, ...] = ()) -> Done:
        done = subprocess.run(
            [sys.executable, *(python or ("-m", "shmbridge.cli")), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PACKAGE_PARENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SAFETY_NET,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Callable[[int], Trainer]]:
    """Start a process with so many pools; it is ended afterwards."""
    processes = []

    def start(pools: int = 1) -> Trainer:
        folder = tmp_path / f"trainer{len(processes)}"
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(folder), str(pools)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PACKAGE_PARENT},
        )
        processes.append(process)
        return Trainer(process)

    yield start
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait(SAFETY_NET)
        process.stdout.close()


@pytest.fixture
def sprint(tmp_path: Path) -> Callable[..., str]:
    """An executable Sprint: a Python script, or, without a text, refsprint."""

    def write(
        text: str = "import sys; from shmbridge.refsprint.__main__ import main; sys.exit(main())",
    ) -> str:
        path = tmp_path / f"sprint{time.monotonic_ns()}"
        path.write_text(f"#!{sys.executable}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write
