"""`shmbridge lattices check`: compare lattices with corpus and lexicon."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from .arguments import count

if TYPE_CHECKING:
    from shmbridge.bliss.corpus import Segment
    from shmbridge.bliss.lexicon import Lexicon

__all__ = ["add_arguments", "run"]

_FOUND = 1  # the exit code if a lattice has a problem


@dataclasses.dataclass(frozen=True)
class _Finding:
    """A problem of a segment's lattice; line is None for the lattice as a whole."""

    segment: str
    file: str
    line: Optional[int]
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.message}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `shmbridge lattices`."""
    parser.add_argument("action", choices=["check"], help="what to do with the lattices")
    parser.add_argument("--corpus", required=True, metavar="FILE", help="the Bliss corpus")
    parser.add_argument("--lexicon", required=True, metavar="FILE", help="the Bliss lexicon of the lattices")
    parser.add_argument(
        "--path", required=True, metavar="FOLDER", help="the folder of the lattices (lattice-archive.path)"
    )
    parser.add_argument(
        "--suffix",
        default=".lat",
        metavar="SUFFIX",
        help="the end of their names after the full segment name (default: %(default)s)",
    )
    parser.add_argument(
        "--states-per-phone",
        type=count,
        default=1,
        metavar="N",
        help="the least number of frames that a phone needs (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Print each problem with file and line. Return 1 if there are any, else 0."""
    # Imported here: `shmbridge --help` must work even if NumPy or the C part is broken.
    from shmbridge.bliss.corpus import read_corpus
    from shmbridge.bliss.lexicon import read_lexicon

    lexicon = read_lexicon(options.lexicon)
    segments = read_corpus(options.corpus).segments
    findings = []
    for segment in segments:
        for finding in _check(segment, lexicon, options):
            findings.append(finding)
            if not options.json:
                print(finding, flush=True)
    if options.json:
        report = {"ok": not findings, "lattices": len(segments)}
        print(json.dumps({**report, "problems": [dataclasses.asdict(each) for each in findings]}))
    else:
        print(f"{len(segments)} lattices, problems: {len(findings)}")
    return _FOUND if findings else 0


def _check(segment: Segment, lexicon: Lexicon, options: argparse.Namespace) -> Iterator[_Finding]:
    from shmbridge.errors import FileFormatError
    from shmbridge.lattices import check_lattice, read_htk

    name = segment.full_name
    file = os.path.join(options.path, name + options.suffix)
    try:
        lattice = read_htk(file)
    except FileFormatError as error:
        where = file if error.line is None else f"{file}:{error.line}"
        yield _Finding(name, file, error.line, str(error).removeprefix(f"{where}: "))
        return
    for problem in check_lattice(lattice, segment, lexicon, states_per_phone=options.states_per_phone):
        yield _Finding(name, file, problem.line, problem.message)
