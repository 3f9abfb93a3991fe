"""The options of a pool, typed and checked."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Optional, Union, get_args

from .. import config as config_strings
from ..errors import OptionError
from ..memory import Geometry
from .command_line import CommandLine, is_argument

DEFAULT_RING_SIZE = 128 << 20

Unnormalized = Literal["warn", "error", "allow"]

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
    max_batches_in_flight: int = 2
    unnormalized_posteriors: Unnormalized = "warn"
    allow_zero_error_signal: bool = False
    skip_warning_share: float = 0.1
    segment_timeout: Optional[float] = None
    start_timeout: float = 600.0
    exit_timeout: float = 10.0
    env: Optional[Mapping[str, str]] = None

    def __post_init__(self) -> None:
        """Copy the user's mappings: a restart must not find other values in them."""
        for name in ("sprint_control_config", "env"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                object.__setattr__(self, name, dict(value))

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
            ("max_batches_in_flight", 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise OptionError(
                    f"{name} is {value!r}; it must be an integer of at least {minimum} [option-value]"
                )
        for name in ("use_python_segment_order", "skip_fatal_segments", "allow_zero_error_signal"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise OptionError(f"{name} is {value!r}; it must be True or False [option-value]")
        share = self.skip_warning_share
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share <= 1:
            raise OptionError(
                f"skip_warning_share is {share!r}; it must be more than 0 and at most 1 [option-value]"
            )
        choices = get_args(Unnormalized)
        if self.unnormalized_posteriors not in choices:
            raise OptionError(
                f"unnormalized_posteriors is {self.unnormalized_posteriors!r}; it must be one of "
                f"{', '.join(map(repr, choices))} [option-value]"
            )
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
            if not (is_argument(key) and is_argument(value) and key and "=" not in key):
                raise OptionError(
                    f"env has {key!r}: {value!r}; names and values must be str without NUL, and names "
                    "without '=' [option-value]"
                )
        _ = self.command_line, self.directory
        return self

    @functools.cached_property
    def directory(self) -> Optional[str]:
        """The working directory of the trainer when the pool was created; None if it was deleted.

        Sprint starts there, also later: its options may have relative paths.
        """
        try:
            return os.getcwd()
        except OSError:
            return None

    @functools.cached_property
    def command_line(self) -> CommandLine:
        """Sprint's executable and the user's options for it; `checked` looks for them.

        Raises:
            OptionError: as CommandLine.parse.
        """
        return CommandLine.parse(self.sprint_exec_path, self.sprint_config)


def unknown_option(name: object, known: Collection[str]) -> OptionError:
    """Return the error for an option that does not exist."""
    if not isinstance(name, str):
        return OptionError(f"an option has the name {name!r}; it must be a str [unknown-option]")
    close = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"valid options: {', '.join(sorted(known))}"
    return OptionError(f"unknown option {name!r}; {advice} [unknown-option]")
