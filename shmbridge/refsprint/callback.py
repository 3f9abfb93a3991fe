"""The commands that Python may ask of Sprint: what ``callback("command", ...)`` does.

The command is the first argument and positional; the others may be given by name. What Python did wrong
in Python's terms (an unknown command or keyword, a wrong type, an unknown segment) is an exception in the
caller. What RASR would end for ends the process, under the caller's feet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, Optional

import numpy as np

from shmbridge.errors import FileFormatError, OptionError

from . import CALLBACK_VERSION, console
from .configuration import Configuration
from .criterion import ERROR_TYPES, Criterion, Model, create_criterion
from .matrices import Matrix, from_python, outside_of_handlers, to_python, vector_from_python
from .orthography import unknown_words
from .segment_order import visit

__all__ = ["Callback"]

_NOT_GIVEN = object()  # None is: RASR refuses it where it takes a str
_VERSION = "refsprint of shmbridge, a stand-in for RASR's neural-network-trainer"
_HELP = """callback(command, **arguments), where command is one of
version, version_number, help, init_criterion,
calculate_criterion(posteriors, orthography | alignment, output_error_type, segment_name),
export_allophone_state_fsa_by_orthography(orthography),
export_allophone_state_fsa_by_segment_name(segment_name),
get_orthography_by_segment_name(segment_name).
"""


class Callback:
    """What Python is given to ask things of Sprint. Not thread-safe: call it from the control loop."""

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self._model = Model(config)
        self._commands: dict[str, Callable[..., Any]] = {
            "version": self._version,
            "version_number": self._version_number,
            "help": self._help,
            "init_criterion": self._init_criterion,
            "calculate_criterion": self._calculate_criterion,
            "export_allophone_state_fsa_by_orthography": self._automaton_by_orthography,
            "export_allophone_state_fsa_by_segment_name": self._automaton_by_segment_name,
            "get_orthography_by_segment_name": self._get_orthography,
            "get_alignment_from_cache": self._alignment_cache,
            "analyze_alignment_from_cache": self._alignment_cache,
            "get_ctc_alignment": self._ctc_alignment,
        }

    def __call__(self, command: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Execute a command.

        Errors:
            ValueError: the command, or the value of an argument, is unknown.
            TypeError: an argument is missing, of the wrong type, or unknown.
            KeyError: there is no such segment.
        """
        _check_text(command, "the command")
        if command not in self._commands:
            raise ValueError(f"callback(): unknown command {command!r} [callback-call]")
        try:
            return self._commands[command](*arguments, **keywords)
        except console.FailedAssertionError as failure:
            console.abort(str(failure))
        except (console.CriticalError, FileFormatError, OptionError) as error:
            console.exit_now(1, str(error))
        except SystemExit as error:
            # From getSegmentList, which the corpus may ask: RASR does not come back from that.
            console.exit_now(error.code if isinstance(error.code, int) else int(error.code is not None))

    @functools.cached_property
    def _criterion(self) -> Criterion:
        return create_criterion(self._config, self._model)

    @functools.cached_property
    def _orthographies(self) -> dict[str, str]:
        # RASR reads the corpus anew for this, with all its options: with python-segment-order it calls
        # getSegmentList, and knows afterwards only the segments that this named.
        orthographies = {}
        for segment in visit(self._config.select("corpus")):
            unknown: tuple[str, ...] = ()
            if self._model.has_lexicon:
                unknown = unknown_words(segment.orthography, self._model.lexicon)
            if unknown:
                problem = (
                    f"segment {segment.full_name!r}: the lexicon lacks the word {unknown[0]!r} [orthography]"
                )
                raise FileFormatError(segment.path, segment.line, problem)
            orthographies[segment.full_name] = segment.orthography
        return orthographies

    def _version(self) -> str:
        return _VERSION

    def _version_number(self) -> int:
        return CALLBACK_VERSION

    def _help(self) -> str:
        return _HELP

    def _init_criterion(self) -> None:
        _ = self._criterion

    def _calculate_criterion(
        self,
        posteriors: Any,
        orthography: Any = _NOT_GIVEN,
        alignment: Any = None,
        output_error_type: Any = "none",
        segment_name: Any = _NOT_GIVEN,
        **given: Any,
    ) -> tuple[Optional[float], Optional[Matrix]]:
        if given:
            raise TypeError(f"calculate_criterion: unknown argument {next(iter(given))!r} [callback-call]")
        for text, name in ((orthography, "orthography"), (segment_name, "segment_name")):
            if text is not _NOT_GIVEN:
                _check_text(text, name)
        orthography = None if orthography is _NOT_GIVEN else orthography
        _check_text(output_error_type, "output_error_type")
        if output_error_type not in ERROR_TYPES:
            raise ValueError(
                f"calculate_criterion: unknown output_error_type {output_error_type!r} [callback-call]"
            )
        matrix = outside_of_handlers(from_python, posteriors, "posteriors")
        if alignment is not None:
            if orthography is not None:
                raise ValueError(
                    "calculate_criterion: give an alignment or an orthography, not both [callback-call]"
                )
            vector_from_python(alignment, "alignment")
        outcome = outside_of_handlers(self._criterion.calculate, matrix, orthography, output_error_type)
        if outcome is None:
            return None, None
        loss = float(np.float32(outcome.loss))
        return loss, None if outcome.error is None else to_python(outcome.error)

    def _automaton_by_orthography(self, orthography: Any) -> tuple[int, int, Any, Any]:
        _check_text(orthography, "orthography")
        automaton = self._model.automaton(orthography).export()
        return automaton.num_states, automaton.num_edges, automaton.edges, automaton.weights

    def _automaton_by_segment_name(self, segment_name: Any) -> tuple[int, int, Any, Any]:
        return self._automaton_by_orthography(self._get_orthography(segment_name))

    def _get_orthography(self, segment_name: Any) -> str:
        _check_text(segment_name, "segment_name")
        if segment_name not in self._orthographies:
            raise KeyError(f"unknown segment name {segment_name!r} [unknown-segment]")
        return self._orthographies[segment_name]

    def _alignment_cache(
        self, cache_filename: Any, segment_name: Any = None, silence_allophone_state_idx: Any = None
    ) -> NoReturn:
        raise ValueError(
            f"refsprint does not offer Sprint's cache archives: {cache_filename!r} [callback-call]"
        )

    def _ctc_alignment(self, *_arguments: Any, **_keywords: Any) -> NoReturn:
        raise ValueError("refsprint does not offer get_ctc_alignment [callback-call]")


def _check_text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"callback(): {name} must be str, not {type(value).__name__} [callback-call]")
    if "\0" in value:
        raise ValueError(f"callback(): {name} holds a null character [callback-call]")
