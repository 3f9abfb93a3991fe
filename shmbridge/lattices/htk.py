"""HTK's standard lattice format: text files, plain or gzipped.

    VERSION=1.0
    N=3 L=2
    I=0 t=0.00
    I=1 t=0.31
    I=2 t=0.58
    J=0 S=0 E=1 W=hello a=-210.5 l=-2.3
    J=1 S=1 E=2 W=world a=-198.1 l=-1.7

RASR numbers the nodes from 0 in the order of the file, begins at node 0, and ends at nodes without arcs. An
arc without a word has that of its source node. Scores are natural logarithms: RASR ignores another base.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import threading
from pathlib import Path
from typing import Union

from ..bliss.files import read_text
from ..errors import FileFormatError, UsageError
from .lattice import Lattice

__all__ = ["read_htk", "write_htk"]

# A field: a key, "=", and a value, which may be quoted. Blanks may surround the "=".
_FIELD = re.compile(r'\s*([^\s="]+)\s*=\s*(?:"([^"]*)"|(\S+))')
_MAX_NODES = 10_000_000


def read_htk(path: Union[str, os.PathLike[str]], *, convert_base: bool = True) -> Lattice:
    """Read a lattice, plain or gzipped.

    Args:
        path: the file.
        convert_base: convert scores to natural logarithms if the header gives another base. False: return
            them as RASR reads them.

    Raises:
        FileFormatError: the file is missing, malformed, or its lattice is invalid: with the line.
    """
    return _Reader(os.fspath(path), convert_base).read()


def write_htk(lattice: Lattice, path: Union[str, os.PathLike[str]]) -> None:
    """Write a lattice; gzipped if the name ends with ".gz". The file appears when it is complete.

    Raises:
        UsageError: a word contains a quotation mark, or blanks at its ends.
        OSError: the file cannot be written.
    """
    lines = ["VERSION=1.0", f"N={lattice.num_nodes} L={lattice.num_arcs}"]
    lines += [f"I={node} t={time!r}" for node, time in enumerate(lattice.times.tolist())]
    columns = (lattice.sources, lattice.targets, lattice.acoustic, lattice.language)
    for arc, (source, target, acoustic, language) in enumerate(zip(*(column.tolist() for column in columns))):
        word = _quoted(lattice.words[arc], arc)
        lines.append(f"J={arc} S={source} E={target}{word} a={acoustic!r} l={language!r}")
    content = "".join(line + "\n" for line in lines).encode()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    _write(Path(path), content)


def _quoted(word: str, arc: int) -> str:
    if not word:
        return ""
    if '"' in word or "\n" in word or word != word.strip():
        raise UsageError(f"words[{arc}] is {word!r}; HTK's format has no way to write it [lattice]")
    return f' W="{word}"' if re.search(r"\s", word) else f" W={word}"


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Reader:
    def __init__(self, path: str, convert_base: bool) -> None:
        self._path = path
        self._convert_base = convert_base
        self._line = 0
        self._scale = 1.0  # from the base of the file's logarithms to natural ones
        self._times: list[float] = []
        self._labels: list[str] = []
        self._arcs: list[tuple[int, int, str, float, float, int]] = []

    def read(self) -> Lattice:
        for line in read_text(self._path).splitlines():
            self._line += 1
            if line.strip() and not line.lstrip().startswith("#"):
                self._read_line(line)
        self._line = 0
        if not self._times:
            raise self._error("the lattice has no nodes: a line I=0 t=… must come first")
        sources, targets, words, acoustic, language, lines = zip(*self._arcs) if self._arcs else [()] * 6
        try:
            return Lattice(
                self._times,
                sources,
                targets,
                [word or self._labels[source] for word, source in zip(words, sources)],
                [self._scale * score for score in acoustic],
                [self._scale * score for score in language],
                lines,
            )
        except UsageError as error:
            raise self._error(str(error)[: -len(" [lattice]")]) from None

    def _read_line(self, line: str) -> None:
        fields = self._fields(line)
        kind = next(iter(fields))
        if kind == "I":
            self._read_node(fields)
        elif kind == "J":
            self._read_arc(fields)
        elif self._times:
            raise self._error(f"{line.strip()!r} is neither a node (I=…) nor an arc (J=…)")
        elif "base" in fields:
            base = self._number(fields, "base", 0.0)
            if base <= 0 or base == 1:
                raise self._error(f"base is {base}; it must be positive, and not 1")
            self._scale = math.log(base) if self._convert_base else 1.0

    def _fields(self, line: str) -> dict[str, str]:
        fields: dict[str, str] = {}
        position = 0
        line = line.rstrip()
        while position < len(line):
            match = _FIELD.match(line, position)
            if match is None:
                raise self._error(f"{line[position:].strip()!r} is not a field; it must be key=value")
            key, quoted, plain = match.groups()
            fields[key] = plain if quoted is None else quoted
            position = match.end()
        return fields

    def _read_node(self, fields: dict[str, str]) -> None:
        if self._arcs:
            raise self._error("a node follows an arc; all nodes must come first")
        if self._number(fields, "I") != len(self._times):
            raise self._error(
                f"the node is I={fields['I']}; it must be I={len(self._times)}: Sprint counts them"
            )
        if len(self._times) >= _MAX_NODES:
            raise self._error(f"the lattice has more than {_MAX_NODES} nodes")
        self._times.append(self._number(fields, "t", _first(fields, "time")))
        self._labels.append(_first(fields, "W", "WORD") or "")

    def _read_arc(self, fields: dict[str, str]) -> None:
        ends = []
        for short, long in (("S", "START"), ("E", "END")):
            node = self._number(fields, short if short in fields else long)
            if not node.is_integer() or not 0 <= node < len(self._times):
                raise self._error(f"{short} is {node:g}; it must be a node from 0 to {len(self._times) - 1}")
            ends.append(int(node))
        word = _first(fields, "W", "WORD") or ""
        scores = (self._number(fields, "a", "0"), self._number(fields, "l", "0"))
        self._arcs.append((ends[0], ends[1], word, *scores, self._line))

    def _number(self, fields: dict[str, str], key: str, default: Union[str, float, None] = None) -> float:
        text = fields.get(key, default)
        if text is None:
            raise self._error(f"the line has no field {key}=…")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise self._error(f"{key} is {text!r}; it must be a number")
        return number

    def _error(self, problem: str) -> FileFormatError:
        return FileFormatError(self._path, self._line or None, f"{problem} [lattice]")


def _first(fields: dict[str, str], *keys: str) -> Union[str, None]:
    return next((fields[key] for key in keys if key in fields), None)
