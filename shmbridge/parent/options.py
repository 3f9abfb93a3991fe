"""The options of instances and pools, under our names and under those in RETURNN users' configs."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
import shutil
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from .. import config as config_strings
from ..errors import OptionError
from ..memory import Geometry

DEFAULT_RING_SIZE = 128 << 20

# What the bridge itself puts into the config string.
_OURS = frozenset({"c2p_fd", "p2c_fd", "shm_fd", "bell_fd", "parent_pidfd"})

# RETURNN's name -> ours
ALIASES = {
    "sprintExecPath": "sprint_exec_path",
    "sprintConfigStr": "sprint_config",
    "sprintControlConfig": "sprint_control_config",
    "minPythonControlVersion": "min_python_control_version",
    "usePythonSegmentOrder": "use_python_segment_order",
    "numInstances": "num_instances",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """How children are started and talked to.

    Attributes:
        sprint_exec_path: Sprint's executable (nn-trainer, refsprint), or a command with leading arguments.
        sprint_config: more options for Sprint: a string, split as a shell splits words (no shell ever
            sees it), or a list of str.
        sprint_control_config: more settings for the config string, such as {"verbose": True}.
        min_python_control_version: the oldest Sprint callback version that will do.
        use_python_segment_order: whether the parent orders the segments; False only for Sprints that run
            python-control-loop-type=python-control-loop, or recognise (serve_scores).
        num_instances: children of a pool.
        ring_size: bytes of each of the two rings of an instance; the largest segment has to fit.
        num_labels: the label dimension of the posteriors, if known beforehand: others are refused at once.
        max_restarts: how often a segment at which Sprint ended, or hung, is sent to a new child. 0: it is an
            error at once, and the child is started anew at the next call. serve_scores wants 0.
        skip_fatal_segments: what Sprint does not survive, however often it is sent, is answered as discarded
            (and logged) instead of being an error.
        segment_timeout: seconds that Sprint may work on one segment (serve_scores: between its questions)
            before it is taken to hang; None: no limit.
        start_timeout: seconds until a starting child has to say hello.
        exit_timeout: seconds until a child that was asked to exit is killed.
        env: the environment of the children; None: that of this process. Two settings of glibc's malloc are
            added where they are not set (see docs/architecture.md).
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
        """Check the options of a user, under either naming.

        Raises:
            OptionError: an option is unknown, given twice, missing or of a wrong type or range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        options: dict[str, Any] = {}
        for name, value in given.items():
            ours = ALIASES.get(name, name)
            if ours not in known:
                raise OptionError(
                    f"unknown option {name!r}; there are {', '.join(sorted(known))} [unknown-option]"
                )
            if ours in options:
                raise OptionError(
                    f"the option {ours!r} is given twice, once under another name [unknown-option]"
                )
            options[ours] = value
        if "sprint_exec_path" not in options:
            raise OptionError("the option sprint_exec_path (Sprint's executable) is missing [unknown-option]")
        parsed = cls(**options)
        parsed._check()
        return parsed

    def _check(self) -> None:
        for name, least in (
            ("num_instances", 1),
            ("ring_size", 1),
            ("min_python_control_version", 0),
            ("max_restarts", 0),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OptionError(
                    f"the option {name} is {value!r}; it takes an integer of at least {least} [option-value]"
                )
        labels = self.num_labels
        if labels is not None and (not isinstance(labels, int) or isinstance(labels, bool) or labels < 1):
            raise OptionError(
                f"the option num_labels is {labels!r}; it takes a positive integer [option-value]"
            )
        for name in ("start_timeout", "exit_timeout", "segment_timeout"):
            value = getattr(self, name)
            if value is None and name == "segment_timeout":
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not (0 < value <= threading.TIMEOUT_MAX or value == math.inf):
                raise OptionError(
                    f"the option {name} is {value!r}; it takes seconds, more than 0 and "
                    f"at most {threading.TIMEOUT_MAX:.0f}, or inf [option-value]"
                )
        Geometry.for_ring_size(self.ring_size)
        for name in ("sprint_control_config", "env"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise OptionError(
                    f"the option {name} is {value!r}; it takes a mapping, such as a dict [option-value]"
                )
        for key in set(self.sprint_control_config or {}) & _OURS:
            raise OptionError(
                f"sprint_control_config has {key!r}, which the bridge sets itself [control-config]"
            )
        config_strings.compose(self.sprint_control_config or {})
        for key, value in (self.env or {}).items():
            if not (_is_argument(key) and _is_argument(value) and key and "=" not in key):
                raise OptionError(
                    f"the option env has {key!r}: {value!r}; names and values are str without NUL, "
                    "and a name takes no '=' [option-value]"
                )
        self.command()

    @property
    def leading_arguments(self) -> int:
        """How many arguments belong to the command itself (`python -m …`), before any option for Sprint."""
        path = self.sprint_exec_path
        return 0 if isinstance(path, (str, os.PathLike)) else len(path) - 1

    def command(self) -> list[str]:
        """The executable and the arguments that the user gave.

        Raises:
            OptionError: there is no such executable, or the words cannot be split.
        """
        path = self.sprint_exec_path
        words = [path] if isinstance(path, (str, os.PathLike)) else path
        try:
            head = [os.fsdecode(word) for word in words]
        except TypeError:
            raise OptionError(
                f"the option sprint_exec_path is {path!r}; it takes a path, or a list of path and arguments"
                " [executable]"
            ) from None
        if not head or not head[0]:
            raise OptionError("the option sprint_exec_path is empty [executable]")
        found = shutil.which(head[0])
        if found is None:
            if os.path.exists(head[0]):
                raise OptionError(f"sprint_exec_path: {head[0]!r} is not an executable file [executable]")
            raise OptionError(f"sprint_exec_path: there is no {head[0]!r} [executable]")
        config = self.sprint_config
        try:
            tail = shlex.split(config) if isinstance(config, str) else [os.fsdecode(word) for word in config]
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"sprint_config {config!r} cannot be split into words: {error} [command-line]"
            ) from None
        for name, given in (("sprint_exec_path", head), ("sprint_config", tail)):
            for word in given:
                if not _is_argument(word):
                    raise OptionError(
                        f"the option {name} has {word!r}, which no process can be given: "
                        "it holds a NUL or a lone surrogate [command-line]"
                    )
        return [found, *head[1:], *tail]


def _is_argument(text: object) -> bool:
    """Whether a process can be given this as an argument, or in its environment."""
    try:
        return isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
