"""Training criteria: the loss of posteriors, and its gradient.

Of RASR's option ``training-criterion``, the values ``ctc`` (the default here) and ``none`` are supported. For
another value, RASR prints an error and uses ``none``.

Sprint holds the GIL during the whole calculation. Here numpy releases it within larger loops; only the delays
and the copies of the matrices hold it throughout.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np

from shmbridge.bliss.lexicon import Lexicon, read_lexicon

from .automaton import Automaton, build_automaton
from .configuration import Configuration
from .console import CriticalError, FailedAssertionError, warn
from .ctc import CtcResult, ForwardBackward
from .matrices import Matrix
from .orthography import parse_orthography

__all__ = ["ERROR_TYPES", "Criterion", "Model", "Outcome", "create_criterion"]

ERROR_TYPES = ("none", "error-signal", "error-signal-before-softmax", "pseudo-targets")
"""The kinds of error that a criterion can compute in addition to the loss."""

_usleep = ctypes.PyDLL(None).usleep
_usleep.argtypes = (ctypes.c_uint,)


class Outcome(NamedTuple):
    """The loss and the error of a segment.

    Attributes:
        loss: the loss of the whole segment.
        error: (label, time) float32 of the requested kind, or None.
    """

    loss: float
    error: Optional[Matrix]


Criterion = Callable[[Matrix, str, str], Optional[Outcome]]
"""Returns the outcome for (posteriors, orthography, error type), or None if the segment is skipped.

The posteriors are (label, time) float32 in Fortran order; the error type is one of ERROR_TYPES. A criterion
raises FailedAssertionError or CriticalError if Sprint would end. As in Sprint, it is not thread-safe.
"""


class Model:
    """The lexicon, and the automata of orthographies. Not thread-safe."""

    def __init__(self, config: Configuration) -> None:
        # RASR's name for the part of Sprint that reads the lexicon; *.lexicon.file is an option of it, too.
        self._config = config.select("model-combination.lexicon")
        self._optional_silence = config.select("refsprint").boolean("optional-silence", False)
        self._warned: set[str] = set()
        self.forward_backward = functools.lru_cache(256)(lambda orth: ForwardBackward(self.automaton(orth)))

    @functools.cached_property
    def lexicon(self) -> Lexicon:
        """The lexicon, read at the first use.

        Raises:
            OptionError: the options do not name a lexicon.
            FileFormatError: the file is missing or malformed.
        """
        normalize = self._config.boolean("normalize-pronunciation", True)
        return read_lexicon(self._config.required("file"), normalize)

    @property
    def has_lexicon(self) -> bool:
        """Whether the options name a lexicon."""
        return bool(self._config.string("file"))

    @property
    def num_labels(self) -> int:
        """The number of labels that the posteriors must have."""
        return len(self.lexicon.phonemes)

    def automaton(self, orthography: str) -> Automaton:
        """Return the CTC automaton of an orthography. Raise the errors of parse_orthography."""
        lattice = parse_orthography(orthography, self.lexicon, self._optional_silence)
        for word in lattice.skipped:
            if word not in self._warned:
                self._warned.add(word)
                warn(f"skipping the unknown word {word!r} [orthography]")
        return build_automaton(lattice, self.lexicon.blank())


class _CtcCriterion:
    """CTC as in RASR's CtcCriterion with a prior scale of zero."""

    def __init__(self, config: Configuration, model: Model) -> None:
        self._log_space = config.boolean("input-in-log-space", False)
        self._model = model
        # As in RASR, fail now if the model cannot be loaded, not at the first segment.
        model.lexicon.blank()

    def __call__(self, posteriors: Matrix, orthography: str, error_type: str) -> Optional[Outcome]:
        if not orthography:
            raise CriticalError("CTC needs the orthography of the segment [orthography]")
        num_labels, num_frames = posteriors.shape
        if num_labels != self._model.num_labels:
            problem = f"the posteriors have {num_labels} labels, the model has {self._model.num_labels}"
            raise FailedAssertionError(f"{problem} [refsprint-posteriors]")
        if num_frames == 0:
            raise FailedAssertionError("the posteriors have no frames [refsprint-posteriors]")
        frames = posteriors.T
        maxima = frames.max(axis=1)
        # RASR checks only the first value, so that a NaN elsewhere ends up in the error signal.
        if np.isnan(maxima).any() or (not self._log_space and frames.min() < 0):
            raise FailedAssertionError(
                "the logarithms of the posteriors contain a NaN [refsprint-posteriors]"
            )

        paths = self._model.forward_backward(orthography)
        used = frames[:, paths.labels].astype(np.float64)
        if not self._log_space:
            with np.errstate(divide="ignore"):
                used = np.log(used)
        result = paths.sum_paths(used)
        if result is None:
            return None
        return Outcome(result.loss, self._error(error_type, frames, maxima, result))

    def _error(self, error_type: str, frames: Matrix, maxima: Matrix, result: CtcResult) -> Optional[Matrix]:
        if error_type == "none":
            return None
        error = np.empty(frames.shape, np.float32)
        labels, occupation = result.labels, result.occupation
        if error_type == "pseudo-targets":
            error.fill(0.0)
            error[:, labels] = occupation
        elif self._log_space:
            # y - ŷ, where y is the softmax of the posteriors: RASR treats them as the input of a softmax.
            with np.errstate(invalid="ignore"):
                np.subtract(frames, maxima[:, np.newaxis], out=error)
                np.exp(error, out=error)
                error /= error.sum(axis=1, keepdims=True)
            error[:, labels] -= occupation.astype(np.float32)
            if error_type == "error-signal-before-softmax":
                # RASR now applies the derivative of a softmax whose output is the logarithms. The result is
                # meaningless, but callers receive it.
                inner = np.einsum("tl,tl->t", error, frames)
                error -= inner[:, np.newaxis]
                error *= frames
        elif error_type == "error-signal-before-softmax":
            np.copyto(error, frames)
            error[:, labels] -= occupation.astype(np.float32)
        else:
            # -ŷ / y, and 0 if both are 0.
            error.fill(0.0)
            given = frames[:, labels]
            error[:, labels] = -np.divide(occupation, given, out=np.zeros_like(occupation), where=given > 0)
        signal: Matrix = error.T
        return signal


def _no_criterion(posteriors: Matrix, orthography: str, error_type: str) -> Outcome:
    """Compute RASR's criterion "none": loss 0, error signal 0."""
    if error_type in ("none", "pseudo-targets"):
        return Outcome(0.0, None)
    return Outcome(0.0, np.zeros_like(posteriors))


def _null_criterion(posteriors: Matrix, orthography: str, error_type: str) -> Outcome:
    """Return loss 0 and the posteriors as the error, so that only the cost of the transfer remains."""
    return Outcome(0.0, None if error_type == "none" else posteriors)


def _delayed(criterion: Criterion, sleep: float, busy: float) -> Criterion:
    """Delay a criterion and, as in Sprint, block the other threads of the process meanwhile."""

    def calculate(posteriors: Matrix, orthography: str, error_type: str) -> Optional[Outcome]:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600.0)
        try:
            _wait(sleep)
            end = time.perf_counter() + busy
            while time.perf_counter() < end:
                sum(range(1000))
        finally:
            sys.setswitchinterval(interval)
        return criterion(posteriors, orthography, error_type)

    return calculate


def _wait(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while (rest := end - time.perf_counter()) > 0:
        # PyDLL holds the GIL. A signal interrupts usleep.
        _usleep(min(int(rest * 1e6) + 1, 3_600_000_000))


def create_criterion(config: Configuration, model: Model) -> Criterion:
    """Create the criterion that the options select.

    Raises:
        OptionError: the options are malformed.
        FileFormatError: the model cannot be loaded.
    """
    own = config.select("refsprint")
    kind = own.choice("criterion", ("ctc", "none", "null", ""), "")
    if not kind:
        kind = config.string("training-criterion", "ctc")
        if kind not in ("ctc", "none"):
            problem = f"unparsable value {kind} for parameter training-criterion, substituting default"
            warn(f"configuration error: {problem} (none); it must be ctc or none [config-value]")
            kind = "none"
    criterion: Criterion = _no_criterion if kind == "none" else _null_criterion
    if kind == "ctc":
        criterion = _CtcCriterion(config, model)
    sleep, busy = own.seconds("criterion-sleep"), own.seconds("criterion-busy")
    return _delayed(criterion, sleep, busy) if sleep or busy else criterion
