"""`shmbridge doctor`: each check fails once."""

from pathlib import Path

import pytest

import shmbridge


def checks(done):
    return {check["name"]: check for check in done.json["checks"]}


def of(done, name):
    """Return a check of the only Sprint."""
    (found,) = (check for check in done.json["checks"] if check["name"].endswith(f": {name}"))
    return found


def test_a_working_sprint_passes_all_checks(run, sprint):
    done = run("doctor", "--json", "--ring-size", 1 << 16, "--sprint", sprint())
    assert done.code == 0, done.out
    assert done.json["ok"] is True
    assert all(check["status"] != "failed" for check in done.json["checks"])
    assert {name.rpartition(": ")[2] for name in checks(done)} >= {
        "C part", "shared memory", "doorbell (futex)", "pidfd", "open files", "cores",
        "starts", "Python", "numpy", "sprint_entry", "hello", "CTC", "automata", "callback",
    }  # fmt: skip
    assert "refsprint" in of(done, "starts")["found"]


def test_a_lattice_processor_is_recognised_and_has_lattice_criteria(run, sprint):
    path = sprint("import sys; from shmbridge.refsprint.lattice_processor import main; sys.exit(main())")
    done = run("doctor", "--json", "--ring-size", 1 << 16, "--sprint", path)
    assert done.code == 0, done.out
    assert {name.rpartition(": ")[2] for name in checks(done) if name.startswith(path)} == {
        "starts", "Python", "numpy", "sprint_entry", "hello", "MMI", "ME",
    }  # fmt: skip
    assert done.err == ""
    assert "0.274905, as it must be" in of(done, "MMI")["found"]
    assert "-0.759644, as it must be" in of(done, "ME")["found"]


def test_the_commands_of_the_callback_are_shown(run, sprint):
    done = run("doctor", "--json", "--ring-size", 1 << 16, "--sprint", sprint())
    found = of(done, "callback")["found"]
    assert "calculate_criterion" in found
    assert "export_allophone_state_fsa_by_segment_name" in found
    assert "get_ctc_alignment" not in found  # refsprint refuses it


def test_a_sprint_without_ctc_gets_a_warning_and_automata(run, sprint):
    """RASR's master takes the unknown criterion for none."""
    config = "--sprint-config=--*.training-criterion=gone"
    done = run("doctor", "--json", "--ring-size", 1 << 16, "--sprint", sprint(), config)
    assert done.code == 0, done.out
    assert of(done, "CTC")["status"] == "warning"
    assert "get_automata_for_batch" in of(done, "CTC")["advice"]
    assert of(done, "automata")["status"] == "ok"


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("refsprint.criterion=null", "is 0; it must be 3.10555"),
        ("refsprint.criterion-sleep=1000", "segment_timeout"),
    ],
)
def test_a_criterion_that_does_not_work_is_reported(run, sprint, option, found):
    arguments = ["--ring-size", 1 << 16, "--timeout", 3, "--sprint", sprint()]
    done = run("doctor", "--json", *arguments, f"--sprint-config=--*.{option}")
    assert done.code == 3
    assert of(done, "CTC")["status"] == "failed"
    assert found in of(done, "CTC")["found"]


def test_a_failed_check_shows_advice_and_sets_exit_code_3(run):
    done = run("doctor", "--sprint", "/nowhere/nn-trainer")
    assert done.code == 3
    assert "/nowhere/nn-trainer" in done.out
    assert "→ give the path of nn-trainer or lattice-processor" in done.out
    assert "failed: 1" in done.out


def test_without_rich_the_checks_are_printed_as_plain_lines(run, without_rich):
    done = run("doctor", "--sprint", "/nowhere/nn-trainer", python=without_rich)
    assert done.code == 3
    assert done.err == ""
    assert "  failed  /nowhere/nn-trainer: executable\n" in done.out
    assert "          → give the path of nn-trainer or lattice-processor" in done.out
    assert done.out.endswith("failed: 1\n")


def test_too_little_shared_memory_is_reported_with_advice(run):
    done = run("doctor", "--json", "--ring-size", 1 << 40)
    assert done.code == 3
    check = checks(done)["shared memory"]
    assert check["status"] == "failed"
    assert "2 children need 4.4 TB" in check["found"]
    assert "lower ring_size" in check["advice"]


def test_too_few_descriptors_are_reported_with_advice(run):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
        "from shmbridge.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run("doctor", "--json", "--children", 50, "--ring-size", 4096, python=("-c", limited))
    check = checks(done)["open files"]
    assert check["status"] == "failed"
    assert "100" in check["found"]
    assert "ulimit -n 514" in check["advice"]


@pytest.mark.parametrize("module", ["shmbridge._native", "numpy"])
def test_a_c_part_that_cannot_be_loaded_is_reported_with_advice(run, sprint, module):
    broken = (
        f"import sys; sys.modules[{module!r}] = None; "
        "from shmbridge.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run("doctor", "--json", "--sprint", sprint(), python=("-c", broken))
    assert done.code == 3
    assert checks(done)["C part"]["status"] == "failed"
    assert "pip install" in checks(done)["C part"]["advice"]
    assert run("doctor", python=("-c", broken)).code == 3


def test_sprint_config_overrides_the_path_to_shmbridge(run, sprint, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    installed = Path(shmbridge.__file__).resolve().parent
    (other / "shmbridge").symlink_to(installed)
    (other / "sprint_entry.py").symlink_to(installed.parent / "sprint_entry.py")
    arguments = ["--ring-size", 4096, "--sprint", sprint(), f"--sprint-config=--*.pymod-path={other}"]
    done = run("doctor", "--json", *arguments)
    assert done.code == 0, done.out
    assert of(done, "sprint_entry")["found"] == str(other / "sprint_entry.py")
    assert of(done, "hello")["status"] == "ok"


REFSPRINT = "from shmbridge.refsprint.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize(
    ("text", "failed", "found", "advice"),
    [
        ("print('usage: cat')", "starts", "exited with code 0", "never called Python"),
        ("raise SystemExit('no such option')", "starts", "no such option", "by hand"),
        ("import os; os.abort()", "starts", "SIGABRT", "by hand"),
        ("import time; print('zzz', flush=True); time.sleep(1000)", "starts", "did not end", "--timeout"),
        (
            "import sys; print('x: error while loading shared libraries: liblapack.so.3'); sys.exit(127)",
            "starts", "liblapack", "LD_LIBRARY_PATH",
        ),
        (
            f"import sys; sys.modules['shmbridge.cli'] = None; {REFSPRINT}",
            "starts", "shmbridge", "PYTHONPATH",
        ),
        (
            "import sys\nfrom shmbridge.refsprint import __main__ as r\n"
            "from shmbridge.cli import sprint_probe\n"
            "def no(): raise ImportError('numpy.core.multiarray failed to import')\n"
            "sprint_probe._numpy = no; sys.exit(r.main())",
            "numpy", "multiarray", "install numpy",
        ),
        (
            f"import sys; sys.modules['shmbridge.child'] = None; {REFSPRINT}",
            "sprint_entry", "shmbridge.child", "pip install",
        ),
        (
            f"import sys\nif 'sprint_entry' in str(sys.argv): sys.exit('not twice')\n{REFSPRINT}",
            "hello", "not twice", "last output",
        ),
    ],
)  # fmt: skip
def test_a_faulty_sprint_is_reported_with_advice(run, sprint, text, failed, found, advice):
    done = run("doctor", "--json", "--ring-size", 4096, "--timeout", 3, "--sprint", sprint(text))
    assert done.code == 3
    check = of(done, failed)
    assert check["status"] == "failed"
    assert found in check["found"]
    assert advice in check["advice"]
    assert sum(check["status"] == "failed" for check in done.json["checks"]) == 1
