"""The commands that Python can send to Sprint: ``callback("command", ...)``.

The command is the first argument, and positional. The other arguments may be named. Errors in the call itself
(an unknown command or keyword, a wrong type, an unknown segment) raise an exception. Other errors end the
process, as in RASR.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, Optional

import numpy as np

from shmbridge.errors import FileFormatError, OptionError

from . import CALLBACK_VERSION, console
from .configuration import Configuration, one_of
from .criterion import ERROR_TYPES, Criterion, Model, create_criterion
from .matrices import Matrix, from_python, to_python, vector_from_python, without_allocation_handlers
from .segment_order import visit

__all__ = ["Callback"]

_VERSION = "refsprint of shmbridge, a stand-in for RASR's neural-network-trainer"
_HELP = """callback(command, **arguments), where command is one of
version, version_number, help, init_criterion,
calculate_criterion(posteriors, orthography | alignment, output_error_type, segment_name),
export_allophone_state_fsa_by_orthography(orthography),
export_allophone_state_fsa_by_segment_name(segment_name),
get_orthography_by_segment_name(segment_name).
"""


class Callback:
    """The function through which Python calls Sprint. Not thread-safe: call it from the control loop."""

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self._model = Model(config)
        self._commands: dict[str, Callable[..., Any]] = {
            "version": lambda: _VERSION,
            "version_number": lambda: CALLBACK_VERSION,
            "help": lambda: _HELP,
            "init_criterion": self._init_criterion,
            "calculate_criterion": self._calculate_criterion,
            "export_allophone_state_fsa_by_orthography": self._automaton_by_orthography,
            "export_allophone_state_fsa_by_segment_name": self._automaton_by_segment_name,
            "get_orthography_by_segment_name": self._get_orthography,
        }
        for command in ("get_alignment_from_cache", "analyze_alignment_from_cache", "get_ctc_alignment"):
            self._commands[command] = functools.partial(_refuse, command)

    def __call__(self, command: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Execute a command.

        Raises:
            ValueError: the command is unknown, or an argument has a wrong value.
            TypeError: an argument is missing, unknown or of the wrong type.
            KeyError: the segment is unknown.
        """
        _check_text(command, "the command")
        if command not in self._commands:
            rule = one_of(command, tuple(self._commands))
            raise ValueError(f"callback(): the command is {command!r}; it must be {rule} [callback-call]")
        try:
            return self._commands[command](*arguments, **keywords)
        except console.FailedAssertionError as failure:
            console.abort(str(failure))
        except (console.CriticalError, FileFormatError, OptionError) as error:
            console.exit_now(1, str(error))
        except SystemExit as error:
            # getSegmentList raised it. RASR ends the process.
            console.exit_now(error.code if isinstance(error.code, int) else int(error.code is not None))

    @functools.cached_property
    def _criterion(self) -> Criterion:
        return create_criterion(self._config, self._model)

    @functools.cached_property
    def _orthographies(self) -> dict[str, str]:
        # As in RASR, this reads the corpus again, with all its options: with python-segment-order it calls
        # getSegmentList, and contains only the segments that Python names.
        return {each.full_name: each.orthography for each in visit(self._config.select("corpus"))}

    def _init_criterion(self) -> None:
        _ = self._criterion

    def _calculate_criterion(
        self,
        posteriors: Any,
        orthography: Any = "",
        alignment: Any = None,
        output_error_type: Any = "none",
        segment_name: Any = "",
    ) -> tuple[Optional[float], Optional[Matrix]]:
        _check_text(orthography, "orthography")
        _check_text(segment_name, "segment_name")
        _check_text(output_error_type, "output_error_type")
        if output_error_type not in ERROR_TYPES:
            problem = (
                f"output_error_type is {output_error_type!r}; it must be one of {', '.join(ERROR_TYPES)}"
            )
            raise ValueError(f"calculate_criterion: {problem} [callback-call]")
        matrix = without_allocation_handlers(from_python, posteriors, "posteriors")
        if alignment is not None:
            if orthography:
                problem = "alignment and orthography exclude each other"
                raise ValueError(f"calculate_criterion: {problem} [callback-call]")
            vector_from_python(alignment, "alignment")
        outcome = without_allocation_handlers(self._criterion, matrix, orthography, output_error_type)
        if outcome is None:
            return None, None
        loss = float(np.float32(outcome.loss))
        return loss, None if outcome.error is None else to_python(outcome.error)

    def _automaton_by_orthography(self, orthography: Any) -> tuple[Any, ...]:
        _check_text(orthography, "orthography")
        return tuple(self._model.automaton(orthography).export())

    def _automaton_by_segment_name(self, segment_name: Any) -> tuple[Any, ...]:
        return self._automaton_by_orthography(self._get_orthography(segment_name))

    def _get_orthography(self, segment_name: Any) -> str:
        _check_text(segment_name, "segment_name")
        if segment_name not in self._orthographies:
            raise KeyError(f"unknown segment name {segment_name!r} [unknown-segment]")
        return self._orthographies[segment_name]


def _refuse(command: str, *_arguments: Any, **_keywords: Any) -> NoReturn:
    raise ValueError(f"callback(): refsprint does not support the command {command!r} [callback-call]")


def _check_text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"callback(): {name} is of type {type(value).__name__}; it must be str [callback-call]"
        )
    if "\0" in value:
        raise ValueError(f"callback(): {name} contains a null character [callback-call]")
