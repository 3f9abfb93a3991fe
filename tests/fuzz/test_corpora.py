"""The fuzzers' kept inputs, played back without a fuzzer; and the Python targets with inputs of hypothesis.

What was found once lies among them as found-…: each is also a unit test beside the code's others.
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

from c_targets import C_TARGETS, build_c_target  # noqa: E402
from targets import TARGETS  # noqa: E402

CORPORA = HERE / "corpora"
GCC = shutil.which("gcc") or "gcc"


def inputs(target: str) -> list[Path]:
    return sorted((CORPORA / target).iterdir())


@pytest.mark.parametrize("target", C_TARGETS)
def test_c_target_passes_all_inputs(target, tmp_path):
    program = tmp_path / "replay"
    build_c_target(target, [GCC], ["-fsanitize=address,undefined"], program, HERE / "replay.c")
    paths = inputs(target)
    assert len(paths) > 10
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout == f"{len(paths)} inputs passed\n"


def test_a_failing_input_fails_the_replay(tmp_path):
    """Not a build that checks nothing: a target that reads one byte too many is caught."""
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


@pytest.mark.parametrize(
    ("target", "path"),
    [pytest.param(target, path, id=f"{target}-{path.name}") for target in TARGETS for path in inputs(target)],
)
def test_python_target_passes_the_input(target, path):
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_python_target_passes_any_bytes(target):
    # What libFuzzer does best is to change an input that is known to be good; so here, too.
    kept = st.sampled_from([path.read_bytes() for path in inputs(target)])
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
