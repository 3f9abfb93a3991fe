"""`shmbridge demo`, `shmbridge bench`, and the behaviour that all commands share."""

import os
import signal
import subprocess
import sys

import pytest

COMMANDS = ["demo", "bench", "doctor", "stats"]


def test_the_demo_learns_and_shows_the_statistics(run):
    done = run("demo", "--segments", 12, "--epochs", 4, "--children", 2)
    assert done.code == 0, done.err
    assert "loss per frame" in done.out
    assert "█" in done.out
    rows = [line.replace("│", " ").split() for line in done.out.splitlines()]
    assert ["segments", "48"] in rows
    assert ["Sprint", "children", "2"] in rows


def test_the_loss_of_the_demo_falls(run):
    report = run("demo", "--json", "--segments", 16, "--epochs", 6, "--children", 1).json
    losses = [epoch["loss_per_frame"] for epoch in report["epochs"]]
    errors = [epoch["label_error_rate"] for epoch in report["epochs"]]
    assert len(losses) == 6
    assert losses[-1] < losses[0] / 3
    assert errors[-1] < errors[0] / 2
    stats = report["stats"]
    assert (stats["segments"], stats["skipped"], stats["failed"]) == (96, 0, 0)
    assert stats["posteriors_bytes"] == stats["error_signal_bytes"] > 0
    assert [child["state"] for child in stats["children"]] == ["ended"]


def test_the_bench_measures_each_way_and_size(run):
    done = run("bench", "--json", "--sizes", "3x4", "50x60", "--seconds", 0.05)
    assert done.code == 0, done.err
    figures = done.json["figures"]
    assert [(each["way"], each["rows"], each["columns"]) for each in figures] == [
        (way, *shape) for shape in ((3, 4), (50, 60)) for way in ("in place", "batch", "pipe")
    ]
    for each in figures:
        assert 0 < each["p50"] <= each["p90"] <= each["p99"]
        assert each["count"] >= 25
    assert done.json["machine"]["cores"] == len(os.sched_getaffinity(0))


def test_the_bench_shows_a_table(run):
    done = run("bench", "--sizes", "3x4", "--seconds", 0.02)
    assert done.code == 0, done.err
    assert all(word in done.out for word in ("in place", "batch", "pipe", "p99", "48 B", "µs"))


def test_a_matrix_larger_than_memory_is_an_error(run):
    done = run("bench", "--sizes", "100000x100000")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.startswith("error: ")


def test_the_package_can_be_run_as_the_command(run):
    assert run("--help", python=("-m", "shmbridge")) == run("--help")


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_lists_the_exit_codes(run, command):
    done = run(*command.split(), "--help")
    assert done.code == 0
    assert "exit codes:" in done.out
    assert "interrupted" in done.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("", "required: COMMAND"),
        ("nothing", "invalid choice: 'nothing'"),
        ("bench --sizes 3", "'3' is not of the form TIMExLABEL"),
        ("bench --sizes 0x3", "'0' is not a positive integer"),
        ("bench --seconds nan", "'nan' is not a positive number of seconds"),
        ("demo --epochs -1", "'-1' is not a positive integer"),
        ("stats 0", "'0' is not a positive integer"),
        ("stats me", "'me' is not a positive integer"),
        ("doctor --timeout inf", "'inf' is not a positive number of seconds"),
    ],
)
def test_invalid_arguments_are_refused(run, arguments, problem):
    done = run(*arguments.split())
    assert done.code == 2
    assert "usage: shmbridge" in done.err
    assert problem in done.err
    assert "Traceback" not in done.err


def test_without_rich_json_works_and_tables_name_the_package_to_install(run, without_rich):
    for command in ("demo", "bench"):
        done = run(command, python=without_rich)
        assert done.code == 1
        assert "pip install rich" in done.err
    assert run("--help", python=without_rich).code == 0
    report = run("demo", "--json", "--segments", 2, "--epochs", 1, python=without_rich).json
    assert report["stats"]["segments"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_also_ends_the_children(tmp_path, number):
    command = [sys.executable, "-m", "shmbridge.cli", "demo", "--epochs", "1000000", "--segments", "4"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):  # the training is running
            assert process.stdout.readline()
        children = _children_of(process.pid)
        assert len(children) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)


def _children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]
