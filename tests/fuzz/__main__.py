"""Run the fuzzers, each for a time or a number of inputs.

    python tests/fuzz [--seconds N | --inputs N | --merge] [target …]

Needs clang with libFuzzer for the C targets, and atheris for the Python ones. Starts from the kept inputs
(kept_inputs.py), and writes new ones to build/fuzz. --merge keeps the smallest set with the same coverage.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kept_inputs
from c_targets import BUILD, C_TARGETS, HERE, build_c_target, find_clang
from targets import TARGETS

MAX_LENGTHS = {"ring": 512}


def prepare(name: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that fuzzes the target, without libFuzzer's arguments, and its environment."""
    program = BUILD / f"fuzz_{name}"
    if name not in C_TARGETS:
        BUILD.mkdir(parents=True, exist_ok=True)
        words = shlex.join([sys.executable, str(HERE / "fuzz_python.py"), name])
        program.write_text(f'#!/bin/sh\nexec {words} "$0" "$@"\n')
        program.chmod(0o700)
        return [str(program)], dict(os.environ)
    clang, environment = find_clang()
    build_c_target(name, clang, ["-fsanitize=fuzzer,address,undefined"], program, environment=environment)
    return [str(program)], environment


def fuzz(name: str, limit: str, merge: bool) -> int:
    """Run one fuzzer up to a limit, an argument of libFuzzer, and return its exit status."""
    learnt, kept, smallest = (BUILD / folder / name for folder in ("learnt", "kept", "smallest"))
    for folder in (kept, smallest):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (learnt, smallest, BUILD / "findings"):
        folder.mkdir(parents=True, exist_ok=True)
    kept_inputs.extract(name, kept)
    command, environment = prepare(name)
    command += [f"-max_len={MAX_LENGTHS.get(name, 256)}", "-timeout=10", "-rss_limit_mb=1024"]
    command += [f"-artifact_prefix={BUILD}/findings/{name}-"]
    if merge:
        # Merging into an empty folder drops inputs that others cover.
        arguments = ["-set_cover_merge=1", str(smallest), str(learnt), str(kept)]
    else:
        arguments = [limit, "-print_final_stats=1", str(learnt), str(kept)]
    print(f"--- {name}", flush=True)
    done = subprocess.run([*command, *arguments], env=environment, check=False)
    if merge and done.returncode == 0:
        # Inputs that a person named have a hyphen, and stay; libFuzzer's names have none.
        named = [path for path in kept.iterdir() if "-" in path.name]
        kept_inputs.write(name, {path.name: path.read_bytes() for path in (*named, *smallest.iterdir())})
    return done.returncode


def main() -> None:
    """Run the requested targets, or all."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join([*C_TARGETS, *TARGETS]))
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: 20)")
    parser.add_argument("--inputs", type=int, help="for each target, in the place of a time")
    parser.add_argument("--merge", action="store_true", help="do not fuzz; keep the smallest set of inputs")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - {*C_TARGETS, *TARGETS}
    if unknown:
        parser.error(
            f"there is no target {', '.join(sorted(unknown))}; there are {', '.join([*C_TARGETS, *TARGETS])}"
        )
    names = arguments.targets or [*C_TARGETS, *TARGETS]
    limit = f"-max_total_time={arguments.seconds}"
    if arguments.inputs is not None:
        limit = f"-runs={arguments.inputs}"
    failed = [name for name in names if fuzz(name, limit, arguments.merge) != 0]
    if failed:
        raise SystemExit(
            f"findings in {', '.join(failed)}: see above, and the inputs in {BUILD / 'findings'}"
        )


if __name__ == "__main__":
    main()
