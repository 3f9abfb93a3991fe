"""Limits for config files and corpora that include others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shmbridge.bliss.corpus import read_corpus
from shmbridge.errors import FileFormatError
from shmbridge.refsprint.configuration import Configuration


def read_config(path: Path) -> Any:
    return Configuration.from_arguments([f"--config={path}"])


def read_bliss(path: Path) -> Any:
    return read_corpus(str(path))


# name -> (function that reads it, a file that includes another twice, a file without includes)
FORMATS = {
    "config": (read_config, "include {0}\ninclude {0}\n", ""),
    "corpus": (
        read_bliss,
        '<corpus name="c"><include file="{0}"/><include file="{0}"/></corpus>',
        '<corpus name="c"/>',
    ),
}


def write(folder: Path, twice: str, last: str, depth: int) -> Path:
    """Write files 0 to depth. Each but the last includes the next one twice."""
    for number in range(depth):
        (folder / str(number)).write_text(twice.format(folder / str(number + 1)), encoding="utf-8")
    (folder / str(depth)).write_text(last, encoding="utf-8")
    return folder / "0"


@pytest.mark.parametrize("name", FORMATS)
def test_exponentially_many_includes_are_refused(tmp_path: Path, name: str) -> None:
    read, twice, last = FORMATS[name]
    with pytest.raises(FileFormatError, match="more than 10000 files"):
        read(write(tmp_path, twice, last, 40))


@pytest.mark.parametrize("name", FORMATS)
def test_includes_that_are_too_deep_are_an_error(tmp_path: Path, name: str) -> None:
    read, twice, last = FORMATS[name]
    with pytest.raises(FileFormatError, match="more than 50 deep"):
        read(write(tmp_path, twice, last, 51))


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_file_may_be_included_again(tmp_path: Path, name: str) -> None:
    read, twice, last = FORMATS[name]
    read(write(tmp_path, twice, last, 3))
