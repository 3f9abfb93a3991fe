"""The kept inputs of the fuzz targets: corpora/TARGET.zip has one entry for each.

    python tests/fuzz/kept_inputs.py list TARGET
    python tests/fuzz/kept_inputs.py replay TARGET INPUT...    INPUT: a file, or the name of a kept input
    python tests/fuzz/kept_inputs.py add TARGET FILE [NAME]    NAME: found-... for what was a fault
    python tests/fuzz/kept_inputs.py extract TARGET FOLDER

Replaying needs no fuzzer: a C target is built with gcc and its sanitizers, a Python target is called.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
CORPORA = HERE / "corpora"


def archive(target: str) -> Path:
    """Return the file with the kept inputs of a target."""
    return CORPORA / f"{target}.zip"


def read(target: str) -> dict[str, bytes]:
    """Return the kept inputs of a target by name, sorted."""
    with zipfile.ZipFile(archive(target)) as file:
        return {name: file.read(name) for name in sorted(file.namelist())}


def write(target: str, inputs: Mapping[str, bytes]) -> None:
    """Replace the kept inputs of a target. Equal inputs produce equal files, byte for byte."""
    with zipfile.ZipFile(archive(target), "w") as file:  # not compressed: zlib's versions differ
        for name in sorted(inputs):
            file.writestr(zipfile.ZipInfo(name), inputs[name])


def extract(target: str, folder: Path) -> list[Path]:
    """Write each kept input of a target to a file of its name, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = read(target)
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in inputs]


def default_name(data: bytes) -> str:
    """Return the name that libFuzzer gives an input. Names that a person gives have a hyphen."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def add(target: str, file: Path, name: Optional[str] = None) -> str:
    """Add a file to the kept inputs of a target, and return its name there."""
    data = file.read_bytes()
    name = name or default_name(data)
    write(target, {**read(target), name: data})
    return name


def replay(target: str, inputs: list[str]) -> int:
    """Run a target on files or kept inputs, and return the exit status. A Python target raises its error."""
    from c_targets import build_c_target
    from targets import TARGETS

    kept = read(target)
    unknown = [item for item in inputs if item not in kept and not os.path.exists(item)]
    if unknown:
        raise SystemExit(f"no file and no kept input of {target}: {', '.join(unknown)}")
    contents = [kept[item] if item in kept else Path(item).read_bytes() for item in inputs]
    if target in TARGETS:
        for data in contents:
            TARGETS[target](data)
        print(f"{len(contents)} inputs passed")
        return 0
    with tempfile.TemporaryDirectory(prefix="shmbridge-replay-") as folder:
        program = Path(folder) / "replay"
        compiler = [os.environ.get("CC", "cc")]
        build_c_target(target, compiler, ["-fsanitize=address,undefined"], program, HERE / "replay.c")
        paths = [Path(folder) / f"{number}" for number in range(len(contents))]
        for path, data in zip(paths, contents):
            path.write_bytes(data)
        return subprocess.run([program, *paths], check=False).returncode


def main() -> int:
    """Run the command of the command line, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="kept_inputs.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    targets = sorted(path.stem for path in CORPORA.glob("*.zip"))
    for command in ("list", "replay", "add", "extract"):
        commands.add_parser(command).add_argument("target", choices=targets)
    commands.choices["replay"].add_argument("inputs", nargs="+", metavar="INPUT")
    commands.choices["add"].add_argument("file", type=Path)
    commands.choices["add"].add_argument("name", nargs="?")
    commands.choices["extract"].add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "list":
        print("\n".join(read(arguments.target)))
    elif arguments.command == "replay":
        return replay(arguments.target, arguments.inputs)
    elif arguments.command == "add":
        print(add(arguments.target, arguments.file, arguments.name))
    else:
        extract(arguments.target, arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
