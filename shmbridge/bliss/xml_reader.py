"""XML files, plain or gzipped, read as a stream of elements that have line numbers.

The reader refuses entity declarations and internal document type subsets: corpora do not need them, and a few
lines of them can expand to gigabytes. It also refuses deep nesting and huge tags or comments, because expat's
time grows with the square of their size.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any, NamedTuple, NoReturn, Optional, Union
from xml.parsers import expat

from shmbridge.errors import FileFormatError

from .files import open_file

__all__ = ["WHITESPACE", "Element", "open_xml"]

WHITESPACE = " \t\n\r\f\v"
"""The characters that separate words in RASR. A no-break space, for example, does not."""

_CHUNK_SIZE = 1 << 16
_MAX_DEPTH = 200
_MAX_TOKEN_SIZE = 1 << 22  # bytes of a tag with its attributes, or of a comment
_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml\s[^>]*encoding\s*=\s*["']([\w.-]+)""")

# The start of an element (depth, line, name, attributes), a piece of text, or the depth of an element that
# ends. The content of the root ends with the file, so that malformed XML behind the root is noticed.
_Event = Union[tuple[int, int, str, dict[str, str]], str, int]


class Element(NamedTuple):
    """An XML element, and where it starts. Its content can be read once, and only before the next element."""

    path: str
    events: Iterator[_Event]
    depth: int
    line: int
    name: str
    attributes: dict[str, str]

    def children(self) -> Iterator[Element]:
        """Yield the child elements."""
        for event in self.events:
            if isinstance(event, tuple):
                if event[0] == self.depth + 1:
                    yield Element(self.path, self.events, *event)
            elif event == self.depth:
                return

    def words(self) -> list[str]:
        """Return the words of the text of the element and its descendants."""
        texts: list[str] = []
        for event in self.events:
            if isinstance(event, str):
                texts.append(event)
            elif event == self.depth:
                break
        return re.findall(f"[^{WHITESPACE}]+", "".join(texts))

    def required(self, attribute: str) -> str:
        """Return the value of an attribute. Raise FileFormatError if it is missing."""
        if attribute not in self.attributes:
            raise self.error(f"<{self.name}> has no attribute {attribute!r} [xml]")
        return self.attributes[attribute]

    def error(self, problem: str) -> FileFormatError:
        """Return an error that names the file and the line of the element."""
        return FileFormatError(self.path, self.line, problem)


@contextlib.contextmanager
def open_xml(path: str) -> Iterator[Element]:
    """Open a file and yield its root element.

    Raises:
        FileFormatError: here or while the elements are read, the file is missing, not well-formed or refused.
    """
    with contextlib.closing(_batches(path)) as batches:
        document = Element(path, chain.from_iterable(batches), -1, 0, "", {})
        yield next(document.children())


def _batches(path: str) -> Generator[list[_Event], None, None]:
    events: list[_Event] = []
    with open_file(path) as file:
        chunk = file.read(_CHUNK_SIZE)
        parser = _create_parser(path, chunk, events)
        try:
            size = 0
            while chunk:
                parser.Parse(chunk, False)
                size += len(chunk)
                # The bytes that expat has not passed on are one token. It scans them again for each chunk.
                if size - parser.CurrentByteIndex > _MAX_TOKEN_SIZE:
                    problem = f"a tag or comment is longer than {_MAX_TOKEN_SIZE} bytes [xml]"
                    raise FileFormatError(path, parser.CurrentLineNumber, problem)
                yield events
                events.clear()
                chunk = file.read(_CHUNK_SIZE)
            parser.Parse(b"", True)
            yield events
        except expat.ExpatError as error:
            problem = f"{expat.errors.messages[error.code]} [xml]"
            raise FileFormatError(path, error.lineno, problem) from error
        except (LookupError, ValueError) as error:
            # expat passes encodings that it does not know to Python's codecs.
            raise FileFormatError(path, parser.CurrentLineNumber, f"encoding: {error} [xml]") from error


def _create_parser(path: str, head: bytes, events: list[_Event]) -> Any:
    parser = expat.ParserCreate(_encoding(head))
    parser.buffer_text = True
    depth = 0

    def refuse(problem: str) -> NoReturn:
        raise FileFormatError(path, parser.CurrentLineNumber, problem)

    def start_doctype(
        _name: str, _system: Optional[str], _public: Optional[str], has_internal_subset: bool
    ) -> None:
        if has_internal_subset:
            refuse("declarations within the document type are refused [xml]")

    def start_element(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if depth >= _MAX_DEPTH:
            refuse(f"elements are nested more than {_MAX_DEPTH} deep [xml]")
        events.append((depth, parser.CurrentLineNumber, name, attributes))
        depth += 1

    def end_element(_name: str) -> None:
        nonlocal depth
        depth -= 1
        if depth:
            events.append(depth)

    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.CharacterDataHandler = events.append
    parser.StartDoctypeDeclHandler = start_doctype
    parser.EntityDeclHandler = lambda *_: refuse("entity declarations are refused [xml]")
    parser.SkippedEntityHandler = lambda name, _: refuse(f"unknown entity {name!r} [xml]")
    return parser


def _encoding(head: bytes) -> Optional[str]:
    """Return "utf-8" if a file declares it under a name that expat does not know, such as utf8."""
    declared = _ENCODING.match(head)
    with contextlib.suppress(LookupError):
        if declared and codecs.lookup(declared[1].decode()).name == "utf-8":
            return "utf-8"
    return None
