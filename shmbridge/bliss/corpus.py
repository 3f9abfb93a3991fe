"""Bliss corpora: segments and their orthographies."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

from shmbridge.errors import FileFormatError

from .files import Includes
from .xml_reader import Element, open_xml

__all__ = ["ANONYMOUS", "Corpus", "CorpusOptions", "Segment", "read_corpus"]

ANONYMOUS = "ANONYMOUS"
"""RASR's name for a speaker without a name."""

_SPEAKERS = ("speaker", "speaker-description")
_IGNORED = ("description", "condition-description", "condition")


class Segment(NamedTuple):
    """One utterance.

    Attributes:
        name: the name within the recording.
        full_name: corpus/[subcorpus/]recording/segment.
        start: seconds from the beginning of the recording.
        end: likewise; infinite if the corpus does not give it.
        orthography: the words, each followed by one blank; may be empty.
        speaker: the speaker's name, ANONYMOUS, or None.
        path: the file that defines the segment.
        line: the line in that file.
    """

    name: str
    full_name: str
    start: float
    end: float
    orthography: str
    speaker: Optional[str]
    path: str
    line: int

    def error(self, problem: str) -> FileFormatError:
        """Return an error that names the file and the line of the segment."""
        return FileFormatError(self.path, self.line, problem)


class Corpus(NamedTuple):
    """A corpus and its segments, in the order of the file."""

    name: str
    segments: tuple[Segment, ...]


class CorpusOptions(NamedTuple):
    """How to read a corpus.

    Attributes:
        remove_prefix: the prefix to remove from the full names of corpora and subcorpora.
        upper_case: convert orthographies to upper case.
        lower_case: convert orthographies to lower case.
        resolve: replaces references such as $(name) in the names of included files.
    """

    remove_prefix: str = ""
    upper_case: bool = False
    lower_case: bool = False
    resolve: Callable[[str], str] = str


def read_corpus(path: str, options: Optional[CorpusOptions] = None) -> Corpus:
    """Read a Bliss corpus, plain or gzipped, with the files that it includes.

    Raises:
        FileFormatError: a file is missing or malformed.
    """
    reader = _Reader(options or CorpusOptions())
    return Corpus(reader.read_file(path), tuple(reader.segments))


@dataclass
class _Section:
    """A corpus, subcorpus or recording."""

    name: str
    full_name: str
    speakers: ChainMap[str, None] = field(default_factory=ChainMap)
    default_speaker: Optional[str] = None
    names: set[str] = field(default_factory=set)
    num_segments: int = 0

    def add_name(self, element: Element, name: str) -> None:
        if name in self.names:
            raise element.error(f"{element.name} {name!r} is already defined here [corpus]")
        self.names.add(name)


class _Reader:
    def __init__(self, options: CorpusOptions) -> None:
        self.segments: list[Segment] = []
        self._options = options
        self._includes = Includes()

    def read_file(self, path: str, into: Optional[_Section] = None) -> str:
        """Read a file, as part of the section that includes it, and return the name of its corpus."""
        with self._includes.reading(path), open_xml(path) as root:
            if root.name != "corpus":
                raise root.error(f"expected <corpus>, got <{root.name}> [corpus]")
            name = root.required("name")
            if into is not None and name != into.name:
                raise root.error(f"the included corpus is {name!r}; it must be {into.name!r} [corpus]")
            self._read_corpus(root, into or self._open(root, None))
        return name

    def _open(self, element: Element, parent: Optional[_Section]) -> _Section:
        name = element.required("name")
        full_name = name if parent is None else f"{parent.full_name}/{name}"
        if element.name != "recording" and full_name.startswith(self._options.remove_prefix):
            full_name = full_name[len(self._options.remove_prefix) :]
        if parent is None:
            return _Section(name, full_name)
        parent.add_name(element, name)
        return _Section(name, full_name, parent.speakers.new_child(), parent.default_speaker)

    def _read_corpus(self, element: Element, section: _Section) -> None:
        for child in element.children():
            if child.name == "subcorpus":
                self._read_corpus(child, self._open(child, section))
            elif child.name == "recording":
                self._read_recording(child, self._open(child, section))
            elif child.name == "include":
                folder = os.path.dirname(child.path)
                self.read_file(os.path.join(folder, self._options.resolve(child.required("file"))), section)
            elif child.name in _SPEAKERS:
                self._read_default_speaker(child, section)
            elif child.name not in _IGNORED:
                raise child.error(f"unexpected <{child.name}> [xml]")

    def _read_recording(self, element: Element, recording: _Section) -> None:
        if not element.attributes.keys() & {"audio", "video"}:
            raise element.error("<recording> has no attribute 'audio' or 'video' [corpus]")
        for child in element.children():
            if child.name == "segment":
                self.segments.append(self._read_segment(child, recording))
            elif child.name in _SPEAKERS:
                self._read_default_speaker(child, recording)

    def _read_default_speaker(self, element: Element, section: _Section) -> None:
        speaker = _speaker(element, section)
        if element.name == "speaker" or speaker == ANONYMOUS:
            section.default_speaker = speaker
        elif speaker in section.speakers.maps[0]:
            raise element.error(f"speaker {speaker!r} is already defined here [corpus]")
        else:
            section.speakers[speaker] = None

    def _read_segment(self, element: Element, recording: _Section) -> Segment:
        recording.num_segments += 1
        name = element.attributes.get("name")
        if name is None:
            name = str(recording.num_segments)
            while name in recording.names:
                name += "+"
        recording.add_name(element, name)
        start, end = _time(element, "start", "0"), _time(element, "end", "inf")
        if not 0 <= start <= end:
            raise element.error(f"a segment cannot last from {start} to {end} s [corpus]")
        orthography = ""
        speaker = None
        for child in element.children():
            if child.name == "orth":
                orthography = self._orthography(child)
            elif child.name in _SPEAKERS:
                if speaker is not None:
                    raise child.error("the segment already has a speaker [corpus]")
                speaker = _speaker(child, recording)
        if speaker is None:
            speaker = recording.default_speaker
        full_name = f"{recording.full_name}/{name}"
        return Segment(name, full_name, start, end, orthography, speaker, element.path, element.line)

    def _orthography(self, element: Element) -> str:
        text = "".join(word + " " for word in element.words())
        if self._options.upper_case:
            text = text.upper()
        return text.lower() if self._options.lower_case else text


def _speaker(element: Element, section: _Section) -> str:
    """Return the name that <speaker> refers to, or that <speaker-description> defines."""
    if element.name == "speaker-description":
        return element.attributes.get("name", ANONYMOUS)
    name = element.required("name")
    if name not in section.speakers:
        raise element.error(f"speaker {name!r} is not defined [corpus]")
    return name


def _time(element: Element, attribute: str, default: str) -> float:
    text = element.attributes.get(attribute, default)
    try:
        return float(text)
    except ValueError:
        raise element.error(f"{attribute} is {text!r}; it must be a time in seconds [corpus]") from None
