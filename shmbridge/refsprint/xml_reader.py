"""XML files, plain or gzipped, as trees whose elements have line numbers.

The reader refuses entity declarations and internal document type subsets: corpora do not need them, and a few
lines of them can expand to gigabytes. It also refuses deep nesting and huge tags or comments, because expat's
time grows with the square of their size.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple, NoReturn, Optional, Union
from xml.parsers import expat

from shmbridge.errors import FileFormatError

__all__ = ["WHITESPACE", "Element", "read_xml", "split_words"]

WHITESPACE = " \t\n\r\f\v"
"""The characters that separate words in RASR. A no-break space, for example, does not."""

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_SIZE = 1 << 16
_MAX_DEPTH = 200
_MAX_TOKEN_SIZE = 1 << 22  # bytes of a tag with its attributes, or of a comment


class Element(NamedTuple):
    """An XML element, and where it starts.

    Attributes:
        content: the child elements and pieces of text, in document order.
    """

    path: str
    line: int
    name: str
    attributes: dict[str, str]
    content: list[Union[Element, str]]

    def children(self) -> Iterator[Element]:
        """Yield the child elements."""
        return (part for part in self.content if isinstance(part, Element))

    def text(self) -> str:
        """Return the text of the element and its descendants."""
        return "".join(part.text() if isinstance(part, Element) else part for part in self.content)

    def words(self) -> list[str]:
        """Return the words of the text."""
        return split_words(self.text())

    def required(self, attribute: str) -> str:
        """Return the value of an attribute. Raise FileFormatError if it is missing."""
        if attribute not in self.attributes:
            raise self.error(f"<{self.name}> has no attribute {attribute!r} [xml]")
        return self.attributes[attribute]

    def error(self, problem: str) -> FileFormatError:
        """Return an error that names the file and the line of the element."""
        return FileFormatError(self.path, self.line, problem)


def split_words(text: str) -> list[str]:
    """Split a text at RASR's whitespace."""
    return re.findall(f"[^{WHITESPACE}]+", text)


def read_xml(path: str) -> Element:
    """Read a file and return its root element.

    Raises:
        FileFormatError: the file is missing, not well-formed or refused.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    document = Element(path, 0, "", {}, [])
    open_elements = [document]

    def refuse(problem: str) -> NoReturn:
        raise FileFormatError(path, parser.CurrentLineNumber, problem)

    def start_doctype(
        _name: str, _system: Optional[str], _public: Optional[str], has_internal_subset: bool
    ) -> None:
        if has_internal_subset:
            refuse("declarations within the document type are refused [xml]")

    def start_element(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > _MAX_DEPTH:
            refuse(f"elements are nested more than {_MAX_DEPTH} deep [xml]")
        element = Element(path, parser.CurrentLineNumber, name, attributes, [])
        open_elements[-1].content.append(element)
        open_elements.append(element)

    def characters(text: str) -> None:
        open_elements[-1].content.append(text)

    parser.StartElementHandler = start_element
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = start_doctype
    parser.EntityDeclHandler = lambda *_: refuse("entity declarations are refused [xml]")
    parser.SkippedEntityHandler = lambda name, _: refuse(f"unknown entity {name!r} [xml]")

    try:
        with open(path, "rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[assignment]
            size = 0
            while chunk := file.read(_CHUNK_SIZE):
                parser.Parse(chunk, False)
                size += len(chunk)
                # The bytes that expat has not passed on are one token. It scans them again for each chunk.
                if size - parser.CurrentByteIndex > _MAX_TOKEN_SIZE:
                    refuse(f"a tag or comment is longer than {_MAX_TOKEN_SIZE} bytes [xml]")
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise FileFormatError(path, error.lineno, f"{expat.errors.messages[error.code]} [xml]") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"is not a complete gzip file: {error} [file-unreadable]"
        raise FileFormatError(path, None, problem) from error
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error
    except (LookupError, ValueError) as error:
        # expat passes encodings that it does not know to Python's codecs.
        raise FileFormatError(path, parser.CurrentLineNumber, f"encoding: {error} [xml]") from error
    # The handlers form a reference cycle: without this, the tree lives until the next garbage collection.
    open_elements.clear()
    return next(document.children())
