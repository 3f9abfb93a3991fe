"""Text files, and limits for files that include others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from shmbridge.errors import FileFormatError

__all__ = ["Includes", "read_text"]

_MAX_DEPTH = 50
_MAX_FILES = 10_000  # 50 levels of files that each include two others are 2^50 files


def read_text(path: str) -> str:
    """Return the contents of a UTF-8 file.

    Raises:
        FileFormatError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error
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
