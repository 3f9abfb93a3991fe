"""The C part alone, compiled here: plain, and under the address, undefined and thread sanitizers."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "c"
MAKE = shutil.which("make")
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
    pytest.mark.skipif(MAKE is None, reason="there is no make"),
]


@functools.cache
def why_not(kind: str, flags: str, folder: Path) -> str:
    """Return why programs with these flags cannot be built and run here; empty if they can."""
    source, program = folder / "probe.c", folder / f"probe-{kind}"
    source.write_text("int main(void) { return 0; }\n")
    for command in ([*COMPILER.split(), *flags.split(), "-o", program, source], [program]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            return f"{kind} does not work here: {done.stderr.strip().splitlines()[:1]}"
    return ""


FLAGS = {"plain": "-std=c11", "asan": "-fsanitize=address,undefined", "tsan": "-fsanitize=thread"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("c-tests")


def build_and_run(program: str, kind: str, folder: Path, *arguments: str) -> str:
    reason = why_not(kind, FLAGS[kind], folder)
    if reason:
        pytest.skip(reason)
    target = folder / f"{program}-{kind}"
    built = subprocess.run(
        [MAKE, "-C", PROGRAMS, f"BUILD={folder}", f"CC={COMPILER}", str(target)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([target, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", FLAGS)
def test_one_ring_in_one_process(kind, folder):
    assert "tests passed" in build_and_run("test_ring", kind, folder)


@pytest.mark.parametrize("kind", ["plain", "asan"])
def test_each_malloc_and_system_call_fails_once(kind, folder):
    lines = build_and_run("test_faults", kind, folder).splitlines()
    calls = {"malloc", "calloc", "mmap", "memfd_create", "fchmod", "fcntl", "futex", "pthread_create"}
    calls |= {"poll", "nanosleep"}
    assert {line.split()[0] for line in lines} == calls


@pytest.mark.parametrize(
    ("kind", "how", "count", "capacity"),
    [
        ("plain", "processes", 2_000_000, 8192),
        ("plain", "processes", 100_000, 256),
        ("plain", "processes", 50_000, 1 << 18),
        ("plain", "threads", 100_000, 2048),
        ("asan", "processes", 100_000, 4096),
        ("tsan", "threads", 60_000, 4096),
    ],
)
def test_two_ends_under_load_pass_every_byte_in_order(kind, how, count, capacity, folder):
    out = build_and_run("stress_ring", kind, folder, str(count), how, str(capacity))
    assert out == f"{count} records passed\n"


@pytest.mark.parametrize(
    "broken", ["atomic_store_explicit(end->role == SHMB_PRODUCER", "atomic_load_explicit(&end->lines->tail"]
)
def test_tsan_finds_a_position_that_does_not_synchronize(broken, folder, tmp_path):
    reason = why_not("tsan", FLAGS["tsan"], folder)
    if reason:
        pytest.skip(reason)
    shutil.copytree(PROGRAMS, tmp_path / "tests/c")
    shutil.copytree(HERE.parent / "csrc", tmp_path / "csrc")
    ring = tmp_path / "csrc/ring.c"
    lines = ring.read_text().splitlines(keepends=True)
    for i, line in enumerate(lines):
        if broken in line:
            both = line + lines[i + 1]
            lines[i : i + 2] = [re.sub("memory_order_(release|acquire)", "memory_order_relaxed", both), ""]
    ring.write_text("".join(lines))
    program = tmp_path / "stress_ring-tsan"
    command = [MAKE, "-C", tmp_path / "tests/c", f"BUILD={tmp_path}", f"CC={COMPILER}", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, "60000", "threads", "4096"], capture_output=True, text=True, check=False)
    assert "data race" in done.stderr
