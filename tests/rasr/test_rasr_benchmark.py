"""The benchmark of what the bridge adds runs, and says what it has measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import shmbridge

ROOT = Path(__file__).resolve().parents[2]


def run(executable: object, pythonpath: str) -> subprocess.CompletedProcess[str]:
    own = [Path(shmbridge.__file__).resolve().parents[1], ROOT]
    arguments = ["--nn-trainer", str(executable), "--pythonpath", pythonpath]
    size = ["--labels", "20", "--frames", "30", "--segments", "2", "--rounds", "2"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.rasr", *arguments, *size],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, own))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_how_long_a_segment_takes_and_the_ratio(sprint, tmp_path):
    done = run(*sprint.executable(tmp_path))
    assert done.returncode == 0, done.stderr
    for line in ("through the bridge", "no parent", "ratio"):
        assert re.search(rf"^{line} .*p50 +\d+\.\d+", done.stdout, re.MULTILINE), done.stdout


def test_a_sprint_that_ends_is_an_error_with_its_output(tmp_path, sprint):
    executable = tmp_path / "sprint"
    executable.write_text("#!/bin/sh\necho this is no nn-trainer\nexit 3\n")
    executable.chmod(0o755)
    done = run(executable, sprint.executable(tmp_path)[1])
    assert done.returncode == 1
    assert "this is no nn-trainer" in done.stderr
    assert "Traceback" not in done.stderr
