"""The benchmark of the overhead of shmbridge and RETURNN runs, and reports its results."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shmbridge

ROOT = Path(__file__).resolve().parents[2]
OURS = ["bridge", "alone", "bridge_trainer", "alone_trainer"]
RETURNN = ["returnn_pipe", "returnn_shared_memory"]
# RETURNN uses the binary mode of numpy.fromstring, which numpy 2.3 removed.
RETURNN_RUNS = (
    importlib.util.find_spec("returnn") is not None and np.lib.NumpyVersion(np.__version__) < "2.3.0"
)


def run(
    executable: object, pythonpath: str, out: Path, *more: str, first: str = ""
) -> subprocess.CompletedProcess[str]:
    own = [first, Path(shmbridge.__file__).resolve().parents[1], ROOT]
    arguments = ["--nn-trainer", str(executable), "--pythonpath", pythonpath, "--out", str(out), *more]
    size = ["--labels", "20", "--frames", "30", "--segments", "2", "--rounds", "2"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.rasr", *arguments, *size],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in own if path)},
        capture_output=True,
        text=True,
        check=False,
    )


def results(out: Path) -> dict[str, object]:
    return json.loads((out / "rasr.json").read_text())


def test_every_way_has_results_or_a_reason_for_their_absence(sprint, tmp_path):
    done = run(*sprint.executable(tmp_path), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = results(tmp_path / "out")
    assert list(written["ways"]) == [*OURS, *RETURNN]
    for name, way in written["ways"].items():
        if "unavailable" in way:
            assert name in RETURNN
            assert f"{way['title']}: not run: {way['unavailable']}" in done.stdout
            continue
        assert way["seconds"]["count"] == 2
        assert 0 < way["seconds"]["p50"] <= way["seconds"]["p90"] <= way["seconds"]["p99"]
        assert way["loss_difference"] <= 1e-4
        assert way["alone"] == ("alone" if name in ("alone", "bridge") else "alone_trainer")
        assert (way["ratio"]["p50"] == 1) == name.startswith("alone")
        assert re.search(rf"^{re.escape(way['title'])} +\d+\.\d+ ", done.stdout, re.MULTILINE), done.stdout
    target = written["target"]
    assert target["value"] == written["ways"]["bridge"]["ratio"]["p50"]
    assert target["reached"] == (target["value"] <= 1.03)
    assert f"{target['what']}: {target['value']:.3f}" in done.stdout


@pytest.mark.skipif(not RETURNN_RUNS, reason="RETURNN is not installed, or cannot run with this numpy")
def test_both_ways_of_returnn_run(sprint, tmp_path):
    done = run(*sprint.executable(tmp_path), tmp_path / "out")
    ways = results(tmp_path / "out")["ways"]
    assert not [ways[name]["unavailable"] for name in RETURNN if "unavailable" in ways[name]], done.stderr


def test_only_the_selected_ways_run(sprint, tmp_path):
    done = run(*sprint.executable(tmp_path), tmp_path / "out", "--ways", "bridge_trainer")
    assert done.returncode == 0, done.stderr
    assert list(results(tmp_path / "out")["ways"]) == OURS


def test_a_missing_returnn_is_reported_with_the_reason(sprint, tmp_path):
    broken = tmp_path / "path" / "returnn"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no RETURNN for this test')\n")
    done = run(*sprint.executable(tmp_path), tmp_path / "out", first=str(broken.parent))
    assert done.returncode == 0, done.stderr
    ways = results(tmp_path / "out")["ways"]
    for name in RETURNN:
        assert "no RETURNN for this test" in ways[name]["unavailable"]
    assert done.stdout.count("no RETURNN for this test") == 2


def test_a_sprint_that_exits_is_an_error_with_its_output(tmp_path, sprint):
    executable = tmp_path / "sprint"
    executable.write_text("#!/bin/sh\necho this is not nn-trainer\nexit 3\n")
    executable.chmod(0o755)
    done = run(executable, sprint.executable(tmp_path)[1], tmp_path / "out")
    assert done.returncode == 1
    assert "this is not nn-trainer" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "rasr.json").exists()


def test_the_benchmark_of_lattice_criteria_reports_its_figures(tmp_path):
    size = ["--labels", "12", "--frames", "30", "--segments", "3", "--arcs", "15", "--rounds", "2"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    program = tmp_path / "ref-lattice-processor"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m shmbridge.refsprint.lattice_processor "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.rasr.lattices",
            "--lattice-processor",
            program,
            *size,
            "--out",
            tmp_path,
            "--pythonpath",
            env["PYTHONPATH"],
        ],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "lattices.json").read_text())
    assert list(results["ways"]) == ["no parent", "1 child", "2 children"]
    assert all(way["count"] == 2 for way in results["ways"].values())
    assert len(results["targets"]) == 2
    assert "2 children over twice 1 child" in done.stdout
