"""The benchmarks run, report everything, and leave nothing behind. No test depends on a measured time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.packages import import_or_skip

ROOT = Path(__file__).resolve().parents[2]
PEERS_ALWAYS_THERE = ["in_place", "batch_out", "batch", "raw_pipe", "queue_shared_memory"]
FLOORS = ["copy", "semaphore", "semaphore_spinning", "pipe_64"]
PERCENTILES = {"p50", "p90", "p99", "min", "count"}
TIMEOUT = 120


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", "--quick", *arguments]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def names_left_by(pid: int) -> list[str]:
    folders = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]
    return [
        path.name
        for folder in folders
        for path in folder.iterdir()
        if path.name.startswith(f"shmbridge-bench-{pid}-")
    ]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    pytest.importorskip("rich")
    import_or_skip("matplotlib")
    out = tmp_path_factory.mktemp("bench")
    done = run("--sizes", "10x100", "20x50", "--repeat", "2", "--exchanges", "200", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture
def results(quick_run):
    out, _ = quick_run
    return json.loads((out / "results.json").read_text())


def test_the_output_contains_machine_settings_and_load(results):
    machine = results["machine"]
    for field in ("cpu", "cores", "memory_bytes", "kernel", "python", "packages", "commit"):
        assert machine[field]
    assert machine["packages"]["numpy"]
    assert results["settings"]["sizes"] == [[10, 100], [20, 50]]
    assert results["settings"]["rounds"] == 2
    assert set(results["load"]) >= {"started", "load_before", "load_after", "used_by_others"}


def test_every_peer_has_percentiles_or_a_reason(results):
    assert [(size["rows"], size["columns"]) for size in results["exchange"]] == [(10, 100), (20, 50)]
    for of_size in results["exchange"]:
        assert list(of_size["results"]) == list(results["peers"])
        for name, result in of_size["results"].items():
            if "unavailable" in result:
                assert result["unavailable"], name
                assert name not in PEERS_ALWAYS_THERE + FLOORS, result["unavailable"]
            else:
                assert set(result) == PERCENTILES
                assert 0 < result["p50"] <= result["p90"] <= result["p99"]


def test_pools_of_one_and_two_children_are_compared_with_the_ideal(results):
    rows = {(row["criterion"], row["milliseconds"], row["children"]): row for row in results["pools"]}
    assert set(rows) == {
        (kind, duration, children)
        for kind, duration in (("none", 0), ("sleep", 10), ("busy", 10))
        for children in (1, 2)
    }
    assert rows["none", 0, 1]["ideal"] is None
    assert rows["sleep", 10, 2]["ideal"] == 200
    assert all(row["segments_per_second"] > 0 for row in rows.values())


def test_growth_has_cost_and_memory_over_exchanges_and_cost_over_sizes(results):
    chunks = results["growth"]["over_exchanges"]["chunks"]
    assert chunks[-1]["exchanges"] == 200
    for chunk in chunks:
        assert set(chunk["seconds"]) == PERCENTILES
        for process in ("parent", "child"):
            assert chunk[process]["private"] > 0
            assert chunk[process]["objects"] > 0
    for row in results["growth"]["over_sizes"]:
        assert row["bytes"] % 1024 == 0
        assert set(row["in_place"]) == set(row["batch_out"]) == PERCENTILES


def test_idle_has_cpu_time_and_switches_of_parent_and_child(results):
    assert results["idle"]["seconds"] > 0
    for process in ("parent", "child"):
        assert results["idle"][process]["cpu_seconds"] >= 0
        assert results["idle"][process]["switches"] >= 0


def test_every_target_has_a_verdict_or_a_reason(results):
    assert len(results["targets"]) == 9
    for target in results["targets"]:
        assert target["comparison"] in ("<=", ">=")
        if target["value"] is None:
            assert target["reached"] is None
            assert target["reason"]
        else:
            assert isinstance(target["reached"], bool)


def test_pictures_are_written(quick_run):
    out, done = quick_run
    for name in ("latency.svg", "floors.svg", "throughput.svg", "growth.svg"):
        picture = (out / name).read_text()
        assert "<svg" in picture
        assert "prefers-color-scheme: dark" in picture
        assert name in re.sub(r"\s", "", done.stdout)


def test_the_stored_results_can_be_drawn(tmp_path):
    import_or_skip("matplotlib")
    from benchmarks import pictures

    folder = ROOT / "benchmarks" / "results"
    drawn = pictures.write(json.loads((folder / "results.json").read_text()), tmp_path)
    drawn.append(pictures.write_rasr(json.loads((folder / "rasr.json").read_text()), tmp_path))
    assert [path.name for path in drawn] == ["latency.svg", "floors.svg", "throughput.svg", "rasr.svg"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in drawn}


def test_tables_name_every_peer(quick_run, results):
    _, done = quick_run
    for peer in results["peers"].values():
        assert peer["title"] in done.stdout


def test_a_peer_that_is_not_installed_is_reported_with_its_reason(tmp_path):
    pytest.importorskip("rich")
    import_or_skip("matplotlib")
    broken = tmp_path / "path" / "zmq"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no zmq for this test')\n")
    out = tmp_path / "out"
    done = run(
        *("--only", "exchange", "--peers", "zeromq", "copy", "--sizes", "10x100", "--repeat", "1"),
        *("--out", str(out)),
        PYTHONPATH=str(broken.parent),
    )
    assert done.returncode == 0, done.stderr
    of_size = json.loads((out / "results.json").read_text())["exchange"][0]
    assert "no zmq for this test" in of_size["results"]["zeromq"]["unavailable"]
    assert "no zmq for this test" in done.stdout
    assert "p50" in of_size["results"]["copy"]
    assert "no zmq for this test" in (out / "latency.svg").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_and_no_name_behind(tmp_path, number):
    pytest.importorskip("rich")
    import_or_skip("matplotlib")
    from benchmarks.processes import children_of

    process = subprocess.Popen(
        command("--only", "exchange", "--repeat", "1000000", "--out", str(tmp_path)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while len(children := children_of(process.pid)) < 5 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    # multiprocessing's resource tracker ends by itself after the process.
    while (alive := [pid for pid in children if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive
    assert not names_left_by(process.pid)
    assert not (tmp_path / "results.json").exists()
