"""Options, from the command line and from files, looked up as RASR does.

A *resource* is a name and a value that the user gave; its name may hold wildcards:
``*.corpus.file = x``. A *parameter* is asked for by its full path: ``neural-network-trainer.corpus.file``.
Of the resources whose name matches the path, the one that shares the most components with it wins;
of equally specific ones, the first in alphabetical order, as in RASR. The command line is read after
the file and replaces a resource of the *same name*. Note that ``--*.x=y`` stands for the name
``neural-network-trainer.*.x`` and so beats ``[*] x = z`` in a file, while ``[*.corpus] file = z`` in a
file is as specific as ``--*.file=y``: that is RASR's rule too.

The title of RASR's nn-trainer, the first component of its paths, is ``neural-network-trainer``. People
write ``nn-trainer`` for it, so a resource name that begins with ``nn-trainer`` means the same.

Values may refer to others with ``$(name)``, searched from the component outwards and last in the
environment. Unlike RASR, which warns and goes on, a malformed line is an error here. RASR's arithmetic,
``$[...]``, is not offered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from shmbridge.errors import FileFormatError, OptionError

from .includes import Includes

__all__ = ["TITLE", "Configuration"]

TITLE = "neural-network-trainer"
_ALIAS = "nn-trainer"
_COMMENT = "#;%"
_TRUE = frozenset(("true", "yes", "1", "on"))
_FALSE = frozenset(("false", "no", "0", "off"))
_COMMAND_LINE = "command line"
# References within references: a few lines of them could expand to gigabytes.
_MAX_DEPTH = 50
_MAX_LENGTH = 1 << 20  # characters of one value
_MAX_REFERENCES = 1000  # that are followed for one value


class _Resource:
    """A value that the user gave, and where."""

    __slots__ = ("components", "line", "name", "path", "value")

    def __init__(self, name: str, value: str, path: str, line: Optional[int]) -> None:
        self.name = name
        self.components = name.split(".")
        self.value = value
        self.path = path
        self.line = line

    def match(self, path: Sequence[str]) -> int:
        """How many components of `path` the name shares with it; -1 where it does not match."""
        # scores[i]: the best score of the name's components so far against the first i components of the
        # path. A wildcard stands for any number of components, also for none.
        scores = [0] + [-1] * len(path)
        for component in self.components:
            if component == "*":
                for i in range(1, len(scores)):
                    scores[i] = max(scores[i], scores[i - 1])
            else:
                for i in range(len(path), 0, -1):
                    matches = scores[i - 1] >= 0 and path[i - 1] == component
                    scores[i] = scores[i - 1] + 1 if matches else -1
                scores[0] = -1
        return scores[-1]


class Configuration:
    """The options as one component sees them. Not changed after it was read; safe to share.

    Attributes:
        path: the path of the component, such as ``neural-network-trainer.corpus``.
    """

    def __init__(self, resources: dict[str, _Resource], path: str = TITLE) -> None:
        self._resources = resources
        self.path = path

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Configuration:
        """Read the command line (without the program's name) and the file that its ``--config`` names.

        Errors:
            FileFormatError: a line of the file, or an argument, cannot be parsed.
        """
        on_command_line = _Reader()
        on_command_line.read_arguments(arguments)
        path = cls(on_command_line.resources).string("config")
        reader = _Reader()
        if path:
            reader.read_file(path, "*")
        reader.read_arguments(arguments)
        return cls(reader.resources)

    def select(self, name: str) -> Configuration:
        """The options of the component `name` within this one."""
        return Configuration(self._resources, f"{self.path}.{name}")

    def string(self, name: str, default: str = "") -> str:
        """The value of a parameter, references resolved; `default` where the user gave none."""
        resource = self._find(f"{self.path}.{name}")
        return default if resource is None else _Resolution(self).of(resource, ())

    def required(self, name: str) -> str:
        """As string(). OptionError where the user gave none."""
        text = self.string(name)
        if not text:
            raise OptionError(f"{self.path}.{name} is not set [config-value]")
        return text

    def boolean(self, name: str, default: bool) -> bool:
        """As string(), for true and false. OptionError for another word."""
        text = self.string(name)
        if not text:
            return default
        if text not in _TRUE and text not in _FALSE:
            raise OptionError(f"{self.path}.{name}: expected true or false, got {text!r} [config-value]")
        return text in _TRUE

    def integer(self, name: str, default: int) -> int:
        """As string(), for an integer >= 0. OptionError for anything else."""
        text = self.string(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise OptionError(
                f"{self.path}.{name}: expected a non-negative integer, got {text!r} [config-value]"
            )
        return int(text)

    def seconds(self, name: str) -> float:
        """As string(), for a time in seconds, 0 by default. OptionError outside 0 .. 3600."""
        text = self.string(name, "0")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 3600:
            raise OptionError(
                f"{self.path}.{name}: expected seconds from 0 to 3600, got {text!r} [config-value]"
            )
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """As string(), one of `choices`. OptionError for another word."""
        text = self.string(name, default)
        if text not in choices:
            raise OptionError(
                f"{self.path}.{name}: expected one of {', '.join(choices)}, got {text!r} [config-value]"
            )
        return text

    def resolve(self, text: str) -> str:
        """Replace the references ``$(name)`` in `text`.

        Errors:
            FileFormatError: a reference is malformed, circular, or names nothing, or there are too many.
        """
        return _Resolution(self).text(text, (), self.path, None)

    def _find(self, path: str) -> Optional[_Resource]:
        components = path.split(".")
        best: Optional[_Resource] = None
        best_score = 0
        for name in sorted(self._resources):
            resource = self._resources[name]
            score = resource.match(components)
            if score > best_score:
                best, best_score = resource, score
        return best


class _Resolution:
    """One value while its references are followed."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._references = 0

    def of(self, resource: _Resource, above: tuple[_Resource, ...]) -> str:
        """The value of a resource that was found on the way through those `above`."""
        if resource in above:
            raise FileFormatError(
                resource.path,
                resource.line,
                f"the value of {resource.name!r} refers to itself [config-syntax]",
            )
        if len(above) >= _MAX_DEPTH:
            raise FileFormatError(
                resource.path,
                resource.line,
                f"references lie more than {_MAX_DEPTH} deep within each other [config-syntax]",
            )
        return self.text(resource.value, (*above, resource), resource.path, resource.line)

    def text(self, text: str, above: tuple[_Resource, ...], path: str, line: Optional[int]) -> str:
        if "$[" in text:
            raise FileFormatError(
                path, line, f"arithmetic is not offered by refsprint: {text!r} [config-syntax]"
            )
        head, *references = text.split("$(")
        parts = [head]
        length = len(head)
        for reference in references:
            name, bracket, rest = reference.partition(")")
            if not bracket:
                raise FileFormatError(path, line, f"unclosed reference in {text!r} [config-syntax]")
            if not _is_well_formed(name) or "*" in name:
                raise FileFormatError(path, line, f"malformed reference {name!r} [config-syntax]")
            self._references += 1
            parts += [self._referred(name, above, path, line), rest]
            length += len(parts[-2]) + len(rest)
            if self._references > _MAX_REFERENCES or length > _MAX_LENGTH:
                raise FileFormatError(
                    path,
                    line,
                    f"a value takes more than {_MAX_REFERENCES} references or {_MAX_LENGTH} characters"
                    " [config-syntax]",
                )
        return "".join(parts)

    def _referred(self, name: str, above: tuple[_Resource, ...], path: str, line: Optional[int]) -> str:
        scope = self._configuration.path.split(".")
        for length in range(len(scope), -1, -1):
            resource = self._configuration._find(".".join([*scope[:length], name]))
            if resource is not None:
                return self.of(resource, above)
        if name in os.environ:
            return os.environ[name]
        raise FileFormatError(path, line, f"the reference $({name}) names nothing [config-syntax]")


class _Reader:
    """Collects resources; later ones replace earlier ones of the same name."""

    def __init__(self) -> None:
        self.resources: dict[str, _Resource] = {}
        self._includes = Includes()

    def read_arguments(self, arguments: Sequence[str]) -> None:
        """Read ``--name=value``, ``--name value`` and ``--flag``."""
        waiting: Optional[str] = None
        for argument in arguments:
            if argument.startswith("--"):
                if waiting is not None:
                    self._set(waiting, "true", _COMMAND_LINE, None)
                name, equals, value = argument[2:].partition("=")
                name = name[1:] if name.startswith(".") else f"{TITLE}.{name}"
                waiting = None if equals else name
                if equals:
                    self._set(name, value, _COMMAND_LINE, None)
            elif waiting is not None:
                self._set(waiting, argument, _COMMAND_LINE, None)
                waiting = None
            else:
                raise FileFormatError(_COMMAND_LINE, None, f"not an option: {argument!r} [config-syntax]")
        if waiting is not None:
            self._set(waiting, "true", _COMMAND_LINE, None)

    def read_file(self, path: str, selection: str) -> None:
        """Read a file and those that it includes. `selection` stands in front of its names."""
        with self._includes.reading(path):
            for number, line in enumerate(_lines_of(path), 1):
                words = line.split()
                if not words or words[0][0] in _COMMENT:
                    continue
                if words[0] == "include" and len(words) > 1 and not words[1].startswith("="):
                    if len(words) > 2 and words[2][0] not in _COMMENT:
                        raise FileFormatError(
                            path, number, f"unknown argument {words[2]!r} of include [config-syntax]"
                        )
                    self._include(words[1], path, number, selection)
                elif line.startswith("["):
                    selection = self._selection(line, path, number)
                else:
                    self._assignment(line, path, number, selection)

    def _include(self, name: str, path: str, number: int, selection: str) -> None:
        name = Configuration(self.resources).resolve(name)
        if not os.path.isfile(name):
            name = os.path.join(os.path.dirname(path), name)
        if not os.path.isfile(name):
            raise FileFormatError(
                path, number, f"the included file {name!r} does not exist [file-unreadable]"
            )
        self.read_file(name, selection)

    def _selection(self, line: str, path: str, number: int) -> str:
        name, bracket, _ = line[1:].partition("]")
        name = Configuration(self.resources).resolve(name)
        if not bracket or (name and not _is_well_formed(name)):
            raise FileFormatError(path, number, f"malformed selection {line.strip()!r} [config-syntax]")
        return name

    def _assignment(self, line: str, path: str, number: int, selection: str) -> None:
        line = line.strip()
        end = min((i for i, c in enumerate(line) if c in "= \t" + _COMMENT), default=len(line))
        name = Configuration(self.resources).resolve(line[:end])
        rest = line[end:].lstrip()
        value = "true"
        if rest.startswith("="):
            # Like RASR: a comment may follow, so a value cannot hold a comment character, and a value
            # ends at a double quote unless it begins with one.
            value = rest[1:].lstrip()
            quote = value[:1]
            if quote == '"':
                value = value[1:].partition('"')[0]
            else:
                stop = min((i for i, c in enumerate(value) if c in '"' + _COMMENT), default=len(value))
                value = value[:stop].rstrip()
            if not value and quote != '"':
                raise FileFormatError(path, number, f"{name!r} has no value [config-syntax]")
        elif rest and rest[0] not in _COMMENT:
            raise FileFormatError(path, number, f"expected '=' after {name!r} [config-syntax]")
        if not _is_well_formed(name):
            raise FileFormatError(path, number, f"malformed name {name!r} [config-syntax]")
        if selection.endswith("*") and name.startswith("*"):
            name = selection + name[1:]
        elif selection:
            name = f"{selection}.{name}"
        self._set(name, value, path, number)

    def _set(self, name: str, value: str, path: str, line: Optional[int]) -> None:
        if not _is_well_formed(name):
            raise FileFormatError(path, line, f"malformed name {name!r} [config-syntax]")
        if name.split(".")[0] == _ALIAS:
            name = TITLE + name[len(_ALIAS) :]
        # RASR drops what surrounds the outermost quotes, and a single quote with what is before it.
        quotes = [i for i, c in enumerate(value) if c in "\"'"]
        if quotes:
            value = value[quotes[0] + 1 : quotes[-1] if len(quotes) > 1 else None]
        self.resources[name] = _Resource(name, value, path, line)


def _is_well_formed(name: str) -> bool:
    return all(part == "*" or (part and "*" not in part) for part in name.split("."))


def _lines_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", newline=None) as file:
            return file.read().split("\n")
    except OSError as error:
        raise FileFormatError(path, None, f"cannot be read: {error.strerror} [file-unreadable]") from error
    except ValueError as error:
        raise FileFormatError(
            path, None, f"is not a text file in UTF-8: {error} [file-unreadable]"
        ) from error
