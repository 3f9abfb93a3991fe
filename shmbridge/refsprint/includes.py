"""Files that include others: neither in circles, nor too deep, nor too many in all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..errors import FileFormatError

_MAX_DEPTH = 50
_MAX_FILES = 10_000  # files that include others twice each are 2^50, 50 deep


class Includes:
    """The files that are open, each included by the one before it, and how many were read."""

    def __init__(self) -> None:
        self._open: list[str] = []
        self._read = 0

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Read the file, and what it includes, within this.

        Errors:
            FileFormatError: it is not to be read.
        """
        real = os.path.realpath(path)
        self._read += 1
        if real in self._open:
            raise FileFormatError(path, None, "the file includes itself [file-unreadable]")
        if len(self._open) > _MAX_DEPTH:
            raise FileFormatError(
                path, None, f"files are included more than {_MAX_DEPTH} deep [file-unreadable]"
            )
        if self._read > _MAX_FILES:
            raise FileFormatError(
                path, None, f"more than {_MAX_FILES} files are included in all [file-unreadable]"
            )
        self._open.append(real)
        try:
            yield
        finally:
            self._open.pop()
