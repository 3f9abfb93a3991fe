"""The C part for 64-bit ARM: the instructions that order its accesses, and its tests in an emulator.

The emulator shows that the C part is portable. It runs on the order of this machine: tests/memory_model is
about the order of ARM.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPILER = "aarch64-linux-gnu-gcc"
MAKE = shutil.which("make") or "make"
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
SYSTEM = "/usr/aarch64-linux-gnu"  # of libc6-dev-arm64-cross

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"there is no {COMPILER} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)",
)


def assembly(path, function, *flags):
    """Return the instructions of a function of csrc, one a line, with single spaces."""
    command = [COMPILER, "-std=c11", "-O3", *flags, "-S", "-o", "-", str(ROOT / path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body = re.search(rf"^{function}:\n(.*?)^\t\.size\t{function},", done.stdout, re.DOTALL | re.MULTILINE)[1]
    lines = [" ".join(line.split()) for line in body.splitlines()]
    return [line for line in lines if not line.startswith(".") and not line.endswith(":")]


FENCE = r"dmb ish$"
# A function -> what orders its accesses, in this order. __aarch64_… are functions of the compiler's library.
ORDERED = {
    ("csrc/ring.c", "publish"): ["stlr x"],
    ("csrc/ring.c", "load_tail"): ["ldar x"],
    ("csrc/ring.c", "load_head"): ["ldar x"],
    ("csrc/ring.c", "shmb_ring_has_news"): ["ldar x", "ldar x"],
    ("csrc/doorbell.c", "shmb_doorbell_ring"): [FENCE, "ldr w", r"(bl __aarch64_swp4_acq_rel|swpal|ldaxr)"],
    ("csrc/doorbell.c", "shmb_doorbell_poke"): [
        FENCE,
        "ldar w",
        r"(bl __aarch64_ldadd4_acq_rel|ldaddal|ldaxr)",
    ],
    ("csrc/doorbell.c", "shmb_doorbell_take_token"): [
        "ldr w",
        r"(bl __aarch64_cas4_acq_rel|casal|ldaxr)",
        FENCE,
    ],
    ("csrc/doorbell.c", "shmb_doorbell_announce"): ["stlr w", FENCE],
}


@pytest.mark.parametrize(("path", "function"), ORDERED)
def test_accesses_are_ordered_by_instructions(path, function):
    lines = assembly(path, function, "-fno-inline")
    at = 0
    for pattern in ORDERED[path, function]:
        found = [i for i in range(at, len(lines)) if re.match(pattern, lines[i])]
        assert found, f"no {pattern} from instruction {at}: {lines}"
        at = found[0] + 1
    assert sum(line == "dmb ish" for line in lines) == ORDERED[path, function].count(FENCE)


SIZES = {"q": 16, "x": 8, "w": 4, "d": 8, "s": 4}


def bytes_read(lines):
    """Return the offsets of the bytes that a function loads relative to data + next % capacity."""
    remainder, addresses, offsets = "", set(), []
    for line in lines:
        operation, _, text = line.partition(" ")
        operands = re.findall(r"[\w.]+|\[|\]", text)
        load = re.match(r"ldr|ldp", operation) and operands[operands.index("[") + 1 :]
        if load and load[0] in addresses:
            size = SIZES[operands[0][0]] * (2 if operation == "ldp" else 1)
            start = int(load[1]) if load[1].isdigit() else 0
            offsets += range(start, start + size)
        if operation.startswith(("st", "cmp", "ccmp", "cb", "b.", "tst")):
            continue
        addresses -= set(operands[: 2 if operation == "ldp" else 1])
        if operation == "msub":
            remainder = operands[0]
        elif operation == "add" and operands[-1] == remainder:
            addresses.add(operands[0])
    return offsets


def test_a_header_is_read_once():
    # The peer may change it between two reads: what was checked must be what is used.
    assert sorted(bytes_read(assembly("csrc/ring.c", "shmb_ring_receive"))) == list(range(64))


def test_a_header_that_is_read_twice_is_noticed(tmp_path):
    text = (ROOT / "csrc/ring.c").read_text()
    again = "((volatile shmb_record_header *)(void *)(end->data + next % end->capacity))->size"
    assert text.count("next + header.size") == 1
    (tmp_path / "ring.c").write_text(text.replace("next + header.size", f"next + {again}"))
    lines = assembly(tmp_path / "ring.c", "shmb_ring_receive", "-I", str(ROOT / "csrc"))
    assert len(bytes_read(lines)) > 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("aarch64")


@pytest.mark.skipif(EMULATOR is None, reason="there is no qemu-aarch64 (Debian: qemu-user)")
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("test_ring", []),
        ("test_faults", []),
        ("stress_ring", ["20000", "processes"]),
        ("stress_ring", ["20000", "threads", "2048"]),
    ],
)
def test_the_c_part_is_portable_to_64_bit_arm(program, arguments, folder):
    target = folder / f"{program}-plain"
    built = subprocess.run(
        [MAKE, "-C", ROOT / "tests/c", f"BUILD={folder}", f"CC={COMPILER}", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [EMULATOR, "-L", SYSTEM, target, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
