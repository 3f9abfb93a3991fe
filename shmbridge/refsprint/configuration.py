"""Options from the command line and from files, looked up as in RASR.

A *resource* is a name and a value that the user gives. Its name may contain wildcards:
``*.corpus.file = x``. A *parameter* is looked up by its full path: ``neural-network-trainer.corpus.file``.
The resource whose name shares the most components with the path wins. Of equally specific ones, the
alphabetically first wins, as in RASR. A resource replaces an earlier one of the *same name*. The command line
is read before the file, so that the file can refer to it, and again after the file.

Note that ``--*.x=y`` stands for the name ``neural-network-trainer.*.x`` and so takes precedence over
``[*] x = z`` in a file, while ``[*.corpus] file = z`` in a file is as specific as ``--*.file=y``. This is
RASR's rule too.

Paths begin with the title of the program: ``neural-network-trainer`` is that of RASR's nn-trainer. Resource
names may begin with ``nn-trainer`` instead.

Values may refer to other values with ``$(name)``. References are looked up from the component outwards, and
then in the environment. A malformed line is an error; RASR warns and continues. RASR's arithmetic,
``$[...]``, is not supported.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from shmbridge.bliss.files import Includes, read_text
from shmbridge.errors import FileFormatError, OptionError

__all__ = ["TITLE", "Configuration"]

TITLE = "neural-network-trainer"
_ALIAS = "nn-trainer"
_COMMENT = "#;%"
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "1", "on"), True),
    **dict.fromkeys(("false", "no", "0", "off"), False),
}
# Nested references: a few lines of them could expand to gigabytes.
_MAX_DEPTH = 50
_MAX_LENGTH = 1 << 20  # characters of one value
_MAX_REFERENCES = 1000  # references that one value may follow


class _Place(NamedTuple):
    """A file and a line of it, or the command line."""

    path: str
    line: Optional[int] = None

    def error(self, problem: str) -> FileFormatError:
        return FileFormatError(self.path, self.line, problem)


_COMMAND_LINE = _Place("command line")


class _Resource(NamedTuple):
    """A name, its value, and the place where the user gave it."""

    name: str
    value: str
    place: _Place

    def match(self, path: Sequence[str]) -> int:
        """Return the number of components that the name shares with a path, or -1 if it does not match."""
        components = self.name.split(".")
        lengths = {0}  # the numbers of components of the path that the name matches so far
        for component in components:
            if component == "*":
                lengths = {i for i in range(len(path) + 1) if i >= min(lengths, default=math.inf)}
            else:
                lengths = {i + 1 for i in lengths if i < len(path) and path[i] == component}
        return len(components) - components.count("*") if len(path) in lengths else -1


class Configuration:
    """The options as one component sees them. Immutable, and so thread-safe.

    Attributes:
        path: the path of the component, such as ``neural-network-trainer.corpus``.
    """

    def __init__(self, resources: dict[str, _Resource], path: str) -> None:
        self._resources = resources
        self.path = path

    @classmethod
    def from_arguments(cls, arguments: Sequence[str], title: str = TITLE) -> Configuration:
        """Read the command line (without the program's name) and the file that its ``--config`` names.

        Args:
            arguments: the command line.
            title: of the program.

        Raises:
            FileFormatError: a line of the file, or an argument, is malformed.
        """
        reader = _Reader(title)
        reader.read_arguments(arguments)
        path = reader.configuration().string("config")
        if path:
            reader.read_file(path, "*")
        reader.read_arguments(arguments)
        return reader.configuration()

    def select(self, name: str) -> Configuration:
        """Return the options of a component within this one."""
        return Configuration(self._resources, f"{self.path}.{name}")

    def string(self, name: str, default: str = "") -> str:
        """Return the value of a parameter with its references resolved, or `default` if it is not set."""
        resource = self.find(f"{self.path}.{name}")
        return default if resource is None else _Resolution(self).expand(resource)

    def required(self, name: str) -> str:
        """Return the value of a parameter. Raise OptionError if it is not set."""
        text = self.string(name)
        if not text:
            raise OptionError(f"{self.path}.{name} is not set [config-value]")
        return text

    def boolean(self, name: str, default: bool) -> bool:
        """Return a parameter that is true or false. Raise OptionError for another word."""
        text = self.string(name)
        if text and text not in _BOOLEANS:
            raise OptionError(self._problem(name, text, "true or false"))
        return _BOOLEANS.get(text, default)

    def integer(self, name: str, default: int) -> int:
        """Return a non-negative integer. Raise OptionError for another word."""
        text = self.string(name)
        if text and not re.fullmatch("[0-9]{1,15}", text):
            raise OptionError(self._problem(name, text, "a non-negative integer"))
        return int(text or default)

    def seconds(self, name: str) -> float:
        """Return a time in seconds, by default 0. Raise OptionError outside 0 to 3600."""
        text = self.string(name, "0")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 3600:
            raise OptionError(self._problem(name, text, "a number of seconds from 0 to 3600"))
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return one of several words. Raise OptionError for another word."""
        text = self.string(name, default)
        if text not in choices:
            raise OptionError(self._problem(name, text, one_of(text, choices)))
        return text

    def resolve(self, text: str) -> str:
        """Replace the references ``$(name)`` in a text.

        Raises:
            FileFormatError: a reference is malformed, circular or undefined, or there are too many.
        """
        return _Resolution(self).expand_text(text, _Place(self.path))

    def find(self, path: str) -> Optional[_Resource]:
        """Return the most specific resource that matches the full path of a parameter, or None."""
        components = path.split(".")
        candidates = [resource for _, resource in sorted(self._resources.items())]
        best = max(candidates, key=lambda resource: resource.match(components), default=None)
        return best if best is not None and best.match(components) > 0 else None

    def _problem(self, name: str, value: str, rule: str) -> str:
        return f"{self.path}.{name} is {value!r}; it must be {rule} [config-value]"


def one_of(word: str, choices: Sequence[str]) -> str:
    """Return "one of …", with the choice that is closest to a misspelt word."""
    close = difflib.get_close_matches(word, choices, 1)
    return f"one of {', '.join(filter(None, choices))}" + (f" (did you mean {close[0]}?)" if close else "")


class _Resolution:
    """The expansion of one value: follows references, and limits their depth and number."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._open: list[_Resource] = []
        self._num_references = 0

    def expand(self, resource: _Resource) -> str:
        if resource in self._open:
            raise resource.place.error(f"the value of {resource.name!r} refers to itself [config-syntax]")
        if len(self._open) >= _MAX_DEPTH:
            raise resource.place.error(f"references are nested more than {_MAX_DEPTH} deep [config-syntax]")
        self._open.append(resource)
        value = self.expand_text(resource.value, resource.place)
        self._open.pop()
        return value

    def expand_text(self, text: str, place: _Place) -> str:
        if "$[" in text:
            raise place.error(f"refsprint does not support arithmetic: {text!r} [config-syntax]")
        expanded, *references = text.split("$(")
        for reference in references:
            name, bracket, rest = reference.partition(")")
            if not bracket:
                raise place.error(f"unclosed reference in {text!r} [config-syntax]")
            if not _is_well_formed(name) or "*" in name:
                raise place.error(f"malformed reference {name!r} [config-syntax]")
            self._num_references += 1
            expanded += self._refer(name, place) + rest
            if self._num_references > _MAX_REFERENCES or len(expanded) > _MAX_LENGTH:
                raise place.error(
                    f"a value has more than {_MAX_REFERENCES} references or {_MAX_LENGTH} characters"
                    " [config-syntax]"
                )
        return expanded

    def _refer(self, name: str, place: _Place) -> str:
        scope = self._configuration.path.split(".")
        for length in range(len(scope), -1, -1):
            resource = self._configuration.find(".".join([*scope[:length], name]))
            if resource is not None:
                return self.expand(resource)
        if name in os.environ:
            return os.environ[name]
        raise place.error(f"the reference $({name}) is not defined [config-syntax]")


class _Reader:
    """Collects resources. A later one replaces an earlier one of the same name."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._resources: dict[str, _Resource] = {}
        self._includes = Includes()

    def configuration(self) -> Configuration:
        """Return the options as far as they are read."""
        return Configuration(self._resources, self._title)

    def read_arguments(self, arguments: Sequence[str]) -> None:
        """Read ``--name=value``, ``--name value`` and ``--flag``."""
        remaining = list(arguments)
        while remaining:
            argument = remaining.pop(0)
            if not argument.startswith("--"):
                raise _COMMAND_LINE.error(f"{argument!r} is not an option [config-syntax]")
            name, equals, value = argument[2:].partition("=")
            if not equals:
                has_value = remaining and not remaining[0].startswith("--")
                value = remaining.pop(0) if has_value else "true"
            name = name[1:] if name.startswith(".") else f"{self._title}.{name}"
            self._set(name, value, _COMMAND_LINE)

    def read_file(self, path: str, selection: str) -> None:
        """Read a file and the files that it includes. `selection` is the prefix of their names."""
        with self._includes.reading(path):
            # RASR reads bytes: comments and paths need not be UTF-8.
            for number, line in enumerate(read_text(path, "surrogateescape").split("\n"), 1):
                place = _Place(path, number)
                words = line.split()
                if not words or words[0][0] in _COMMENT:
                    continue
                if words[0] == "include" and len(words) > 1 and not words[1].startswith("="):
                    if len(words) > 2 and words[2][0] not in _COMMENT:
                        raise place.error(f"unknown argument {words[2]!r} of include [config-syntax]")
                    self._include(words[1], place, selection)
                elif line.startswith("["):
                    selection = self._selection(line, place)
                else:
                    self._assign(line.strip(), place, selection)

    def _include(self, name: str, place: _Place, selection: str) -> None:
        name = self.configuration().resolve(name)
        if not os.path.isfile(name):
            name = os.path.join(os.path.dirname(place.path), name)
        if not os.path.isfile(name):
            raise place.error(f"the included file {name!r} does not exist [file-unreadable]")
        self.read_file(name, selection)

    def _selection(self, line: str, place: _Place) -> str:
        name, bracket, _ = line[1:].partition("]")
        name = self.configuration().resolve(name)
        if not bracket or (name and not _is_well_formed(name)):
            raise place.error(f"malformed selection {line.strip()!r} [config-syntax]")
        return name

    def _assign(self, line: str, place: _Place, selection: str) -> None:
        name = _up_to(line, "= \t" + _COMMENT)
        rest = line[len(name) :].lstrip()
        name = self.configuration().resolve(name)
        value = "true"
        if rest.startswith("="):
            # As in RASR, a comment may follow. So a value cannot contain a comment character or a double
            # quote, unless it is quoted.
            value = rest[1:].lstrip()
            if value.startswith('"'):
                value = _up_to(value[1:], '"')
            else:
                value = _up_to(value, '"' + _COMMENT).rstrip()
                if not value:
                    raise place.error(f"{name!r} has no value [config-syntax]")
        elif rest and rest[0] not in _COMMENT:
            raise place.error(f"expected '=' after {name!r} [config-syntax]")
        if not _is_well_formed(name):
            raise place.error(f"malformed name {name!r} [config-syntax]")
        if selection.endswith("*") and name.startswith("*"):
            name = selection + name[1:]
        elif selection:
            name = f"{selection}.{name}"
        self._set(name, value, place)

    def _set(self, name: str, value: str, place: _Place) -> None:
        if not _is_well_formed(name):
            raise place.error(f"malformed name {name!r} [config-syntax]")
        if name.split(".")[0] == _ALIAS:
            name = TITLE + name[len(_ALIAS) :]
        # RASR drops the text outside the outermost quotes, and the text up to a single quote.
        quotes = [match.start() for match in re.finditer("[\"']", value)]
        if quotes:
            value = value[quotes[0] + 1 : quotes[-1] if len(quotes) > 1 else None]
        self._resources[name] = _Resource(name, value, place)


def _up_to(text: str, characters: str) -> str:
    """Return the part of a text before the first of some characters."""
    return re.split(f"[{re.escape(characters)}]", text, maxsplit=1)[0]


def _is_well_formed(name: str) -> bool:
    return all(part == "*" or (part and "*" not in part) for part in name.split("."))
