"""Sprint's command line: what the user gives, and what the bridge adds.

Sprint reads `--name=value`. If a value contains quotes, RASR drops all that is outside of the outermost two.
It replaces references, and nothing can prevent that.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from .. import config as config_strings
from ..errors import OptionError

__all__ = ["CommandLine", "control_options", "is_argument"]

# The directory of sprint_entry.py, both in a checkout and installed.
_MODULE_PATH = str(Path(__file__).resolve().parents[2])
_MODULE_NAME = "sprint_entry"
_QUOTES = re.compile("[\"']")


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What the user gives.

    Attributes:
        command: the path of the executable, and its leading arguments (`python -m …`).
        options: the user's own options for Sprint.
    """

    command: tuple[str, ...]
    options: tuple[str, ...]

    @classmethod
    def parse(cls, sprint_exec_path: Any, sprint_config: Any) -> CommandLine:
        """Return the command line of these two options.

        Raises:
            OptionError: the executable does not exist; or the words cannot be split, or Sprint would not
                receive them as they are.
        """
        head = _words_of_command(sprint_exec_path)
        try:
            if isinstance(sprint_config, Mapping):
                raise TypeError("it is a mapping")
            tail = (
                shlex.split(sprint_config)
                if isinstance(sprint_config, str)
                else [os.fsdecode(word) for word in sprint_config]
            )
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"sprint_config is {sprint_config!r}, which cannot be split into words: {error}"
                " [command-line]"
            ) from None
        for name, words in (("sprint_exec_path", head), ("sprint_config", tail)):
            for word in words:
                if not is_argument(word):
                    raise OptionError(
                        f"{name} has {word!r}, which contains a NUL or a lone surrogate; remove it: no "
                        "process can receive it [command-line]"
                    )
        for word in tail:
            _check_quotes(word)
        return cls((_find(head[0]), *head[1:]), tuple(tail))

    def with_bridge(self, settings: Mapping[str, object], segment_order: bool) -> list[str]:
        """Return Sprint's command line. The user's options come last, so that they win.

        Args:
            settings: for the config string.
            segment_order: whether Sprint must ask for the order of the segments.

        Raises:
            OptionError: as control_options.
        """
        config = config_strings.compose(settings)
        order = [
            "--*.python-segment-order=true",
            f"--*.python-segment-order-pymod-path={_module_path()}",
            f"--*.python-segment-order-pymod-name={_MODULE_NAME}",
            f"--*.python-segment-order-config={_quoted(config)}",
            "--*.python-segment-order-allow-copy=false",
        ]
        return [
            *self.command,
            *control_options(_MODULE_NAME, config),
            *(order if segment_order else []),
            *(["--*.input-in-log-space=true"] if self._has_action_python_control() else []),
            *self.options,
        ]

    def _has_action_python_control(self) -> bool:
        """Return whether the criterion always receives our posteriors, which are in log space.

        In a trainer it may receive the output of a softmax above the Python layer, which is not.
        """
        options = (word.lstrip("-").partition("=") for word in self.options)
        actions = [value.strip('"') for name, _, value in options if name.rpartition(".")[2] == "action"]
        return actions[-1:] == ["python-control"]


def control_options(module: str, config: str) -> list[str]:
    """Return the options with which Sprint imports a module of this package as its Python control.

    Args:
        module: its name.
        config: the config string for it.

    Raises:
        OptionError: Sprint would change the path of the package.
    """
    return [
        "--*.python-control-enabled=true",
        f"--*.pymod-path={_module_path()}",
        f"--*.pymod-name={module}",
        f"--*.pymod-config={_quoted(config)}",
    ]


def _module_path() -> str:
    replaced = config_strings.find_replaced(_MODULE_PATH)
    if replaced is not None:
        raise OptionError(
            f"the folder of shmbridge is {_MODULE_PATH!r}, which contains {replaced!r}; move it, because "
            "Sprint replaces that in its options [command-line]"
        )
    return _quoted(_MODULE_PATH)


def is_argument(text: object) -> bool:
    """Return whether a process can receive this as an argument or in its environment."""
    try:
        return isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _words_of_command(sprint_exec_path: Any) -> list[str]:
    words = [sprint_exec_path] if isinstance(sprint_exec_path, (str, os.PathLike)) else sprint_exec_path
    try:
        head = [os.fsdecode(word) for word in words]
    except TypeError:
        raise OptionError(
            f"sprint_exec_path is {sprint_exec_path!r}; it must be a path, or a list of a path and arguments"
            " [executable]"
        ) from None
    if not head or not head[0]:
        raise OptionError("sprint_exec_path is empty; it must be Sprint's executable [executable]")
    return head


def _find(name: str) -> str:
    """Return the absolute path of an executable, so that a restart does not depend on the working directory.

    A bare name is looked up in PATH, and then where the console scripts of this Python lie: the bin folder of
    a virtual environment is not on PATH if only its Python is started.
    """
    expanded = os.path.expanduser(name)
    scripts = _script_folders()
    is_bare = not os.path.dirname(expanded)
    found = shutil.which(expanded)
    if found is None and is_bare:
        found = shutil.which(expanded, path=os.pathsep.join(scripts))
    if found is not None:
        return os.path.abspath(found)
    if is_bare:
        here = " (for the one in the working directory, write './' before it)" if os.path.exists(name) else ""
        raise OptionError(
            f"sprint_exec_path is {name!r}, which is neither in PATH ({os.environ.get('PATH', os.defpath)}) "
            f"nor among the scripts of this Python ({os.pathsep.join(scripts)}){here}; give the path of the "
            "executable [executable]"
        )
    if os.path.exists(expanded):
        raise OptionError(
            f"sprint_exec_path is {name!r}, which is not an executable file; check the path and its "
            "permissions [executable]"
        )
    raise OptionError(f"sprint_exec_path is {name!r}, which does not exist [executable]")


def _script_folders() -> list[str]:
    folders: list[Optional[str]] = [
        os.path.dirname(sys.executable or ""),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", "posix_user"),
    ]
    return list(dict.fromkeys(filter(None, folders)))


def _check_quotes(word: str) -> None:
    """Raise OptionError if Sprint would drop a part of the value.

    A value in quotes loses them, which is what they are for.
    """
    name, equals, value = word.partition("=")
    quotes = [match.start() for match in _QUOTES.finditer(value)]
    if not (word.startswith("--") and equals and quotes):
        return
    if len(quotes) == 1 or quotes[0] > 0 or quotes[-1] < len(value) - 1:
        rest = value[quotes[0] + 1 : quotes[-1] if len(quotes) > 1 else None]
        raise OptionError(
            f"sprint_config has {word!r}, of which Sprint would keep {rest!r}, because it drops what is "
            f"outside of the outermost quotes; put double quotes around the value of {name!r}, or remove "
            f"{value[quotes[0]]} [command-line]"
        )


def _quoted(value: str) -> str:
    """Return the value in quotes if it contains some: Sprint drops the outermost two."""
    return f'"{value}"' if _QUOTES.search(value) else value
