"""Files, plain or gzipped, and limits for files that include others."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import IO

from shmbridge.errors import FileFormatError

__all__ = ["Includes", "open_file", "read_text"]

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DEPTH = 50
_MAX_FILES = 10_000  # 50 levels of files that each include two others are 2^50 files


@contextlib.contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, unpacked if it is gzipped.

    Raises:
        FileFormatError: here or in the body of the with statement, the file cannot be read or unpacked.
    """
    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            yield gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"is not a complete gzip file: {error} [file-unreadable]"
        raise FileFormatError(path, None, problem) from error
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error


def read_text(path: str, errors: str = "strict") -> str:
    """Return the contents of a UTF-8 file, plain or gzipped.

    Args:
        path: the file.
        errors: the error handler for bytes that are not UTF-8, as in bytes.decode.

    Raises:
        FileFormatError: the file cannot be read or, with the error handler "strict", is not UTF-8.
    """
    try:
        with open_file(path) as file:
            return file.read().decode(errors=errors)
    except ValueError as error:
        raise FileFormatError(path, None, f"is not UTF-8 text: {error} [file-unreadable]") from error


class Includes:
    """The chain of files that are being read, each included by the previous one."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._num_files = 0

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Mark a file as being read.

        Raises:
            FileFormatError: the file includes itself, or the includes are too deep or too many.
        """
        real = os.path.realpath(path)
        self._num_files += 1
        if real in self._open:
            raise FileFormatError(path, None, "the file includes itself [file-unreadable]")
        if len(self._open) > _MAX_DEPTH or self._num_files > _MAX_FILES:
            problem = f"includes are more than {_MAX_DEPTH} deep, or more than {_MAX_FILES} files in total"
            raise FileFormatError(path, None, f"{problem} [file-unreadable]")
        self._open.append(real)
        try:
            yield
        finally:
            self._open.pop()
