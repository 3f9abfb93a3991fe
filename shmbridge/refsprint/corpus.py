"""The Bliss corpus: which segments there are, and what is said in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

from shmbridge.errors import FileFormatError

from .includes import Includes
from .xml_reader import read_xml

__all__ = ["ANONYMOUS", "WHITESPACE", "Corpus", "CorpusOptions", "Segment", "read_corpus"]

ANONYMOUS = "ANONYMOUS"
"""RASR's name of a speaker who has none."""

WHITESPACE = " \t\n\r\f\v"
"""What RASR takes for whitespace; a no-break space, for one, is a letter."""

_SECTIONS = ("corpus", "subcorpus", "recording")
_IN_CORPUS = (
    "description",
    "subcorpus",
    "include",
    "condition-description",
    "condition",
    "speaker-description",
    "speaker",
    "recording",
)


@dataclass(frozen=True)
class Segment:
    """One utterance.

    Attributes:
        name: its own name.
        full_name: corpus/[subcorpus/]recording/segment.
        start: in seconds from the beginning of the recording.
        end: likewise; infinite where the corpus does not say.
        orthography: the words, single blanks between and one after them; empty where there are none.
        speaker: the speaker's name, ANONYMOUS, or None.
        path: the file that defines the segment.
        line: the line in it.
    """

    name: str
    full_name: str
    start: float
    end: float
    orthography: str
    speaker: Optional[str]
    path: str
    line: int


@dataclass(frozen=True)
class Corpus:
    """A corpus: its name, and its segments in the order of the file."""

    name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read.

    Attributes:
        remove_prefix: is taken off the full names of corpora and subcorpora.
        upper_case: convert orthographies to upper case.
        lower_case: convert orthographies to lower case.
        resolve: replaces references such as $(name) in the names of included files.
    """

    remove_prefix: str = ""
    upper_case: bool = False
    lower_case: bool = False
    resolve: Callable[[str], str] = str


def read_corpus(path: str, options: Optional[CorpusOptions] = None) -> Corpus:
    """Read a Bliss corpus, plain or gzipped, and what it includes.

    Errors:
        FileFormatError: with file and line, where the file does not define a corpus.
    """
    reader = _CorpusReader(path, options or CorpusOptions(), None, Includes())
    reader.read()
    if reader.root is None:
        raise FileFormatError(path, None, "defines no corpus [corpus]")
    return Corpus(reader.root.name, tuple(reader.segments))


@dataclass
class _Section:
    """A corpus, subcorpus or recording while it is being read."""

    kind: str
    name: str
    full_name: str
    parent: Optional[_Section]
    names: set[str] = field(default_factory=set)
    speakers: dict[str, str] = field(default_factory=dict)
    default_speaker: Optional[str] = None
    segment_count: int = 0

    def speaker(self, name: str) -> Optional[str]:
        """The speaker defined here or further out as `name`."""
        section: Optional[_Section] = self
        while section is not None:
            if name in section.speakers:
                return section.speakers[name]
            section = section.parent
        return None

    def speaker_by_default(self) -> Optional[str]:
        """The speaker of segments that name none."""
        section: Optional[_Section] = self
        while section is not None:
            if section.default_speaker is not None:
                return section.default_speaker
            section = section.parent
        return None


@dataclass
class _OpenSegment:
    name: str
    start: float
    end: float
    line: int
    speaker: Optional[str] = None
    orthography: str = ""


class _CorpusReader:
    """Builds segments from the elements of one file; a file that it includes gets a reader of its own."""

    def __init__(
        self, path: str, options: CorpusOptions, included_into: Optional[_Section], includes: Includes
    ) -> None:
        self.segments: list[Segment] = []
        self.root: Optional[_Section] = None
        self._path = path
        self._options = options
        self._included_into = included_into
        self._includes = includes
        self._section: Optional[_Section] = None
        self._segment: Optional[_OpenSegment] = None
        self._elements: list[str] = []
        self._ignored = 0
        self._text: Optional[list[str]] = None
        self._text_depth = 0

    def read(self) -> None:
        """Read the file."""
        with self._includes.reading(self._path):
            read_xml(self._path, self)

    def start(self, name: str, attributes: dict[str, str], line: int) -> None:
        """An element begins."""
        if self._ignored or self._text is not None:
            # Elements within an orthography are taken for their text.
            self._ignored += self._text is None
            self._elements.append(name)
            return
        parent = self._elements[-1] if self._elements else None
        self._elements.append(name)
        if parent is None:
            self._start_corpus(name, attributes, line)
        elif parent in ("corpus", "subcorpus"):
            self._start_in_corpus(name, attributes, line)
        elif parent in ("recording", "segment") and name in ("speaker", "speaker-description"):
            self._speaker(name, attributes, line)
        elif parent == "recording" and name == "segment":
            self._start_segment(attributes, line)
        elif parent == "segment" and name == "orth":
            self._text = []
            self._text_depth = len(self._elements)
        else:
            self._ignored = 1

    def end(self, name: str, line: int) -> None:
        """An element ends."""
        self._elements.pop()
        if self._ignored:
            self._ignored -= 1
        elif self._text is not None:
            if len(self._elements) < self._text_depth:
                self._end_orthography()
        elif name == "segment":
            self._end_segment()
        elif name in _SECTIONS and self._section is not None:
            self._section = self._section.parent

    def characters(self, text: str, line: int) -> None:
        """A piece of text."""
        if self._text is not None:
            self._text.append(text)

    def _error(self, line: int, problem: str) -> FileFormatError:
        return FileFormatError(self._path, line, problem)

    def _required(self, attributes: dict[str, str], attribute: str, element: str, line: int) -> str:
        value = attributes.get(attribute)
        if value is None:
            raise self._error(line, f"<{element}> has no attribute {attribute!r} [xml]")
        return value

    def _start_corpus(self, name: str, attributes: dict[str, str], line: int) -> None:
        if name != "corpus":
            raise self._error(line, f"expected <corpus>, got <{name}> [corpus]")
        corpus_name = self._required(attributes, "name", "corpus", line)
        outer = self._included_into
        if outer is None:
            self._open("corpus", corpus_name, line)
            self.root = self._section
        elif corpus_name != outer.name:
            raise self._error(
                line, f"the included corpus is {corpus_name!r}, expected {outer.name!r} [corpus]"
            )
        else:
            self._section = outer

    def _open(self, kind: str, name: str, line: int) -> None:
        parent = self._section
        full_name = name if parent is None else f"{parent.full_name}/{name}"
        prefix = self._options.remove_prefix
        if kind != "recording" and prefix and full_name.startswith(prefix):
            full_name = full_name[len(prefix) :]
        if parent is not None:
            if name in parent.names:
                raise self._error(line, f"{kind} {name!r} is already defined here [corpus]")
            parent.names.add(name)
        self._section = _Section(kind, name, full_name, parent)

    def _start_in_corpus(self, name: str, attributes: dict[str, str], line: int) -> None:
        if name not in _IN_CORPUS:
            raise self._error(line, f"unexpected <{name}> [xml]")
        if name == "subcorpus":
            self._open(name, self._required(attributes, "name", name, line), line)
        elif name == "recording":
            self._open(name, self._required(attributes, "name", name, line), line)
            if "audio" not in attributes and "video" not in attributes:
                raise self._error(line, "<recording> needs an attribute 'audio' or 'video' [corpus]")
        elif name == "include":
            self._include(self._required(attributes, "file", name, line))
        elif name in ("speaker", "speaker-description"):
            self._speaker(name, attributes, line)
        else:
            self._ignored = 1

    def _include(self, name: str) -> None:
        path = os.path.join(os.path.dirname(self._path), self._options.resolve(name))
        reader = _CorpusReader(path, self._options, self._section, self._includes)
        reader.read()
        self.segments += reader.segments

    def _speaker(self, element: str, attributes: dict[str, str], line: int) -> None:
        section = self._section
        segment = self._segment
        if section is None:
            raise self._error(line, f"unexpected <{element}> [xml]")
        if element == "speaker":
            name = self._required(attributes, "name", element, line)
            speaker = section.speaker(name)
            if speaker is None:
                raise self._error(line, f"speaker {name!r} is not defined [corpus]")
        else:
            self._ignored = 1
            speaker = attributes.get("name", ANONYMOUS)
        if segment is not None:
            if segment.speaker is not None:
                raise self._error(line, "the segment already has a speaker [corpus]")
            segment.speaker = speaker
        elif element == "speaker" or speaker == ANONYMOUS:
            section.default_speaker = speaker
        elif speaker in section.speakers:
            raise self._error(line, f"speaker {speaker!r} is already defined here [corpus]")
        else:
            section.speakers[speaker] = speaker

    def _start_segment(self, attributes: dict[str, str], line: int) -> None:
        recording = self._section
        if recording is None:
            raise self._error(line, "unexpected <segment> [xml]")
        recording.segment_count += 1
        name = attributes.get("name")
        if name is None:
            name = str(recording.segment_count)
            while name in recording.names:
                name += "+"
        elif name in recording.names:
            raise self._error(line, f"segment {name!r} is already defined here [corpus]")
        recording.names.add(name)
        start = self._time(attributes.get("start", "0"), "start", line)
        end = self._time(attributes.get("end", "inf"), "end", line)
        if not 0 <= start <= end:
            raise self._error(line, f"a segment cannot last from {start} to {end} s [corpus]")
        self._segment = _OpenSegment(name, start, end, line)

    def _time(self, text: str, attribute: str, line: int) -> float:
        try:
            return float(text)
        except ValueError:
            raise self._error(line, f"{attribute} is not a time in seconds: {text!r} [corpus]") from None

    def _end_orthography(self) -> None:
        text = "".join(self._text or ())
        self._text = None
        if self._options.upper_case:
            text = text.upper()
        if self._options.lower_case:
            text = text.lower()
        for character in WHITESPACE[1:]:
            text = text.replace(character, " ")
        words = [word for word in text.split(" ") if word]
        if self._segment is not None:
            self._segment.orthography = "".join(word + " " for word in words)

    def _end_segment(self) -> None:
        segment, recording = self._segment, self._section
        if segment is None or recording is None:
            return
        self._segment = None
        self.segments.append(
            Segment(
                segment.name,
                f"{recording.full_name}/{segment.name}",
                segment.start,
                segment.end,
                segment.orthography,
                segment.speaker if segment.speaker is not None else recording.speaker_by_default(),
                self._path,
                segment.line,
            )
        )
