"""XML files, plain or gzipped, read with expat so that every problem has a line number.

Declarations of entities, and document types with an internal part, are refused: no file of a corpus
needs them, and a few lines of them can expand to gigabytes. So are elements that lie very deep, and tags and
comments of megabytes: the time for them would grow with the square of their size.
"""

from __future__ import annotations

import gzip
import zlib
from typing import IO, NoReturn, Optional, Protocol
from xml.parsers import expat

from shmbridge.errors import FileFormatError

__all__ = ["Handler", "read_xml"]

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 16
_MAX_DEPTH = 200  # elements within each other
_MAX_TOKEN = 1 << 22  # bytes of a tag with its attributes, or of a comment


class Handler(Protocol):
    """What read_xml reports to. Each method may raise FileFormatError."""

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        """An element begins."""

    def end(self, name: str, line: int) -> None:
        """An element ends."""

    def characters(self, text: str, line: int) -> None:
        """A piece of text; one text may come in several pieces."""


def read_xml(path: str, handler: Handler) -> None:
    """Read the file at `path` and report its elements to `handler`.

    Errors:
        FileFormatError: the file is missing, is not well-formed XML, declares entities, or has elements
            within each other or single tags and comments beyond all measure.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(what: str) -> NoReturn:
        raise FileFormatError(path, parser.CurrentLineNumber, what)

    def start_doctype(
        _name: str, _system: Optional[str], _public: Optional[str], has_internal_subset: bool
    ) -> None:
        if has_internal_subset:
            refuse("declarations within the document type are refused [xml]")

    depth = 0

    def start_element(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            refuse(f"elements lie more than {_MAX_DEPTH} deep within each other [xml]")
        handler.start(name, attributes, parser.CurrentLineNumber)

    def end_element(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(name, parser.CurrentLineNumber)

    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.CharacterDataHandler = lambda text: handler.characters(text, parser.CurrentLineNumber)
    parser.StartDoctypeDeclHandler = start_doctype
    parser.EntityDeclHandler = lambda *_: refuse("declarations of entities are refused [xml]")
    parser.SkippedEntityHandler = lambda name, _: refuse(f"unknown entity {name!r} [xml]")

    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[assignment]
            size = 0
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
                size += len(chunk)
                # What was not passed yet is one token, which expat scans anew with each chunk.
                if size - parser.CurrentByteIndex > _MAX_TOKEN:
                    refuse(f"a tag or comment is longer than {_MAX_TOKEN} bytes [xml]")
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise FileFormatError(path, error.lineno, expat.errors.messages[error.code]) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(
            path, None, f"is not a complete gzip file: {error} [file-unreadable]"
        ) from error
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error
    except (LookupError, ValueError) as error:
        # expat asks Python's codecs for encodings that it does not know.
        raise FileFormatError(path, parser.CurrentLineNumber, f"encoding: {error} [xml]") from error
