"""Replays of the fuzzers' kept inputs without a fuzzer, and the Python targets with inputs of hypothesis.

An input named found-… was a fault once. Each has a unit test next to the other tests of that code, too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import kept_inputs  # noqa: E402
from c_targets import C_TARGETS, build_c_target  # noqa: E402
from targets import TARGETS  # noqa: E402

GCC = shutil.which("gcc") or "gcc"
KEPT = {target: kept_inputs.read(target) for target in (*C_TARGETS, *TARGETS)}


@pytest.mark.parametrize("target", C_TARGETS)
def test_c_target_passes_all_inputs(target, tmp_path):
    program = tmp_path / "replay"
    build_c_target(target, [GCC], ["-fsanitize=address,undefined"], program, HERE / "replay.c")
    paths = kept_inputs.extract(target, tmp_path / "inputs")
    assert len(paths) > 10
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout == f"{len(paths)} inputs passed\n"


def test_a_failing_input_fails_the_replay(tmp_path):
    """The build has its sanitizers: a target that reads one byte too many fails."""
    source = tmp_path / "fuzz.c"
    source.write_text(
        '#include "input.h"\n'
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);\n"
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return data[size] == 7; }\n"
    )
    program, file = tmp_path / "replay", tmp_path / "input"
    file.write_bytes(b"1234")
    flags = ["-fsanitize=address,undefined", "-I", str(HERE)]
    subprocess.run([GCC, *flags, "-o", program, source, HERE / "replay.c"], check=True)
    done = subprocess.run([program, file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


@pytest.mark.parametrize(("target", "name"), [(target, name) for target in TARGETS for name in KEPT[target]])
def test_python_target_passes_the_input(target, name):
    TARGETS[target](KEPT[target][name])


@pytest.mark.parametrize("target", TARGETS)
def test_python_target_passes_any_bytes(target):
    # As libFuzzer does: change a valid input.
    kept = st.sampled_from(list(KEPT[target].values()))
    cut = st.builds(
        lambda data, start, length: data[:start] + data[start + length :], kept, *[st.integers(0, 200)] * 2
    )
    changed = st.builds(
        lambda data, at, new: data[:at] + new + data[at:], cut, st.integers(0, 300), st.binary(max_size=40)
    )

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.binary(max_size=300), changed))
    def passes(data):
        TARGETS[target](data)

    passes()


def run_kept_inputs(*arguments):
    command = [sys.executable, str(HERE / "kept_inputs.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("target", ["copy", "corpus"])
def test_a_kept_input_and_a_file_can_be_replayed(target, tmp_path):
    name = next(iter(KEPT[target]))
    (tmp_path / "file").write_bytes(KEPT[target][name])
    done = run_kept_inputs("replay", target, name, tmp_path / "file")
    assert (done.returncode, done.stdout) == (0, "2 inputs passed\n"), done.stderr


def test_an_input_is_added_under_its_name_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_inputs, "CORPORA", tmp_path)
    kept_inputs.write("corpus", {"b": b"2", "a": b"1"})
    before = kept_inputs.archive("corpus").read_bytes()
    kept_inputs.write("corpus", {"a": b"1", "b": b"2"})
    assert kept_inputs.archive("corpus").read_bytes() == before
    (tmp_path / "file").write_bytes(b"3")
    assert kept_inputs.add("corpus", tmp_path / "file", "found-three") == "found-three"
    assert kept_inputs.add("corpus", tmp_path / "file") == "77de68daecd823babbb58edb1c8e14d7106e83bb"
    assert kept_inputs.read("corpus") == {
        "77de68daecd823babbb58edb1c8e14d7106e83bb": b"3",
        "a": b"1",
        "b": b"2",
        "found-three": b"3",
    }
