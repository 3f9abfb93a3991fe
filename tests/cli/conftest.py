"""Fixtures that run the command as a process, and trainers for it to find."""

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
SAFETY_NET = 120  # seconds; only a process that hangs takes so long
TRAINER = Path(__file__).with_name("trainer.py")


class Done(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Trainer:
    """A running trainer.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid, self.children, self.frames = self._read()

    def do(self, action: str) -> None:
        """Let the trainer perform an action (see trainer.py) and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(action + "\n")
        self.process.stdin.flush()
        assert self._read() == "done"

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the trainer ended; see its standard error"
        return json.loads(line)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Done]:
    """Run `shmbridge` with the given arguments in an empty folder."""

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
def without_rich() -> tuple[str, ...]:
    """Return Python's arguments for the command where rich is not installed."""
    hide = "import sys; sys.modules['rich'] = None; from shmbridge.cli.__main__ import main; "
    return ("-c", f"{hide}sys.exit(main(sys.argv[1:]))")


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Callable[[int], Trainer]]:
    """Start a trainer with a number of pools, and end it after the test."""
    processes = []

    def start(pools: int = 1) -> Trainer:
        folder = tmp_path / f"trainer{len(processes)}"
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, str(TRAINER), str(folder), str(pools)],
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
    """Write a Sprint executable: a Python script with the given text, by default refsprint."""

    def write(
        text: str = "import sys; from shmbridge.refsprint.__main__ import main; sys.exit(main())",
    ) -> str:
        path = tmp_path / f"sprint{time.monotonic_ns()}"
        path.write_text(f"#!{sys.executable}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write
