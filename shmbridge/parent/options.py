"""The options of a pool, typed and checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import shlex
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional, Union

from .. import config as config_strings
from ..errors import OptionError
from ..memory import Geometry

DEFAULT_RING_SIZE = 128 << 20

# The keys that the bridge itself puts into the config string.
_RESERVED_KEYS = frozenset({"c2p_fd", "p2c_fd", "shm_fd", "bell_fd", "parent_pidfd"})


@dataclasses.dataclass(frozen=True)
class Options:
    """How children are started, and how the trainer communicates with them.

    `SprintInstancePool` documents each option.
    """

    sprint_exec_path: Union[str, Sequence[str]]
    sprint_config: Union[str, Sequence[str]] = ()
    sprint_control_config: Optional[Mapping[str, object]] = None
    min_python_control_version: int = 2
    use_python_segment_order: bool = True
    num_instances: int = 1
    ring_size: int = DEFAULT_RING_SIZE
    num_labels: Optional[int] = None
    max_restarts: int = 0
    skip_fatal_segments: bool = False
    segment_timeout: Optional[float] = None
    start_timeout: float = 600.0
    exit_timeout: float = 10.0
    env: Optional[Mapping[str, str]] = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Return checked options from a mapping.

        Raises:
            OptionError: an option is unknown, or as `checked`.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                raise unknown_option(name, known)
        return cls(**given).checked()

    def checked(self) -> Options:
        """Return these options.

        Raises:
            OptionError: an option is of a wrong type or range.
        """
        for name, minimum in (
            ("num_instances", 1),
            ("ring_size", 1),
            ("min_python_control_version", 0),
            ("max_restarts", 0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise OptionError(
                    f"{name} is {value!r}; it must be an integer of at least {minimum} [option-value]"
                )
        for name in ("use_python_segment_order", "skip_fatal_segments"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise OptionError(f"{name} is {value!r}; it must be True or False [option-value]")
        labels = self.num_labels
        if labels is not None and (not isinstance(labels, int) or isinstance(labels, bool) or labels < 1):
            raise OptionError(f"num_labels is {labels!r}; it must be a positive integer [option-value]")
        for name in ("start_timeout", "exit_timeout", "segment_timeout"):
            value = getattr(self, name)
            if value is None and name == "segment_timeout":
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not (0 < value <= threading.TIMEOUT_MAX or value == math.inf):
                raise OptionError(
                    f"{name} is {value!r}; it must be seconds, more than 0 and at most "
                    f"{threading.TIMEOUT_MAX:.0f}, or inf [option-value]"
                )
        Geometry.for_ring_size(self.ring_size)
        for name in ("sprint_control_config", "env"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise OptionError(f"{name} is {value!r}; it must be a mapping, such as a dict [option-value]")
        for key in set(self.sprint_control_config or {}) & _RESERVED_KEYS:
            raise OptionError(
                f"sprint_control_config has {key!r}, which the bridge sets itself; remove it [control-config]"
            )
        config_strings.compose(self.sprint_control_config or {})
        for key, value in (self.env or {}).items():
            if not (_is_argument(key) and _is_argument(value) and key and "=" not in key):
                raise OptionError(
                    f"env has {key!r}: {value!r}; names and values must be str without NUL, and names "
                    "without '=' [option-value]"
                )
        self.command()
        return self

    @property
    def leading_arguments(self) -> int:
        """The number of arguments of the command itself (`python -m …`), before any option for Sprint."""
        path = self.sprint_exec_path
        return 0 if isinstance(path, (str, os.PathLike)) else len(path) - 1

    def command(self) -> list[str]:
        """Return the executable and the arguments that the user gave.

        Raises:
            OptionError: there is no such executable, or the words cannot be split.
        """
        path = self.sprint_exec_path
        words = [path] if isinstance(path, (str, os.PathLike)) else path
        try:
            head = [os.fsdecode(word) for word in words]
        except TypeError:
            raise OptionError(
                f"sprint_exec_path is {path!r}; it must be a path, or a list of a path and arguments"
                " [executable]"
            ) from None
        if not head or not head[0]:
            raise OptionError("sprint_exec_path is empty; it must be Sprint's executable [executable]")
        found = shutil.which(head[0])
        if found is None:
            if os.path.exists(head[0]):
                raise OptionError(
                    f"sprint_exec_path is {head[0]!r}, which is not an executable file; check the path and "
                    "its permissions [executable]"
                )
            raise OptionError(f"sprint_exec_path is {head[0]!r}, which does not exist [executable]")
        config = self.sprint_config
        try:
            tail = shlex.split(config) if isinstance(config, str) else [os.fsdecode(word) for word in config]
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"sprint_config is {config!r}, which cannot be split into words: {error} [command-line]"
            ) from None
        for name, given in (("sprint_exec_path", head), ("sprint_config", tail)):
            for word in given:
                if not _is_argument(word):
                    raise OptionError(
                        f"{name} has {word!r}, which contains a NUL or a lone surrogate; remove it: no "
                        "process can receive it [command-line]"
                    )
        return [found, *head[1:], *tail]


def unknown_option(name: str, known: Collection[str]) -> OptionError:
    """Return the error for an option that does not exist."""
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"valid options: {', '.join(sorted(known))}"
    return OptionError(f"unknown option {name!r}; {advice} [unknown-option]")


def _is_argument(text: object) -> bool:
    """Return whether a process can receive this as an argument or in its environment."""
    try:
        return isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
