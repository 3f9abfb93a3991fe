"""Training criteria: the loss of posteriors, and its gradient.

``training-criterion`` is RASR's option, of whose choices ``ctc`` (the default here) and ``none`` are
offered. Options of refsprint's own, for measurements and tests of faults:

    refsprint.criterion = ctc | none | null   overrides training-criterion; null takes no time at all
    refsprint.criterion-sleep = SECONDS       each calculation first sleeps, holding the GIL
    refsprint.criterion-busy = SECONDS        each calculation first keeps a core busy, holding the GIL
    refsprint.optional-silence = true         a silence may stand between words

Sprint holds the GIL during the whole calculation. Here numpy lets go of it within its larger loops; only
the delays above, and the copies at both ends, never do.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np

from .automaton import Automaton, build_automaton
from .configuration import Configuration
from .console import CriticalError, FailedAssertionError, warn
from .ctc import CtcResult, ForwardBackward
from .lexicon import Lexicon, read_lexicon
from .matrices import Matrix, Scratch
from .orthography import parse_orthography

__all__ = ["Criterion", "Model", "Outcome", "create_criterion"]

ERROR_TYPES = ("none", "error-signal", "error-signal-before-softmax", "pseudo-targets")
"""What a criterion can be asked for beside the loss."""

_CACHED_AUTOMATA = 256
_usleep = ctypes.PyDLL(None).usleep
_usleep.argtypes = (ctypes.c_uint,)


@dataclass(frozen=True)
class Outcome:
    """What a criterion made of a segment.

    Attributes:
        loss: of the whole segment.
        error: (label, time) float32 of the kind that was asked for, or None. It may be memory of the
            criterion: copy it before the next calculation.
    """

    loss: float
    error: Optional[Matrix]


class Criterion(Protocol):
    """A training criterion. Not thread-safe, as in Sprint."""

    def calculate(self, posteriors: Matrix, orthography: Optional[str], error_type: str) -> Optional[Outcome]:
        """Compute the loss and the error of one segment.

        Args:
            posteriors: (label, time) float32 in Fortran order.
            orthography: the words of the segment, or None where the caller gave none.
            error_type: one of ERROR_TYPES.

        Returns:
            The outcome, or None where the segment is discarded.

        Errors:
            FailedAssertionError, CriticalError: where Sprint would end.
        """


class Model:
    """The lexicon and what is made of it: automata of orthographies. Not thread-safe."""

    def __init__(self, config: Configuration) -> None:
        self._config = config
        self._optional_silence = config.select("refsprint").boolean("optional-silence", False)
        self._warned: set[str] = set()
        self.forward_backward = functools.lru_cache(_CACHED_AUTOMATA)(self._forward_backward)

    @functools.cached_property
    def lexicon(self) -> Lexicon:
        """The lexicon, read when it is first needed.

        Errors:
            OptionError: no file is named.
            FileFormatError: it is missing or malformed.
        """
        config = self._config.select("lexicon")
        return read_lexicon(config.required("file"), config.boolean("normalize-pronunciation", True))

    @property
    def has_lexicon(self) -> bool:
        """Whether the options name a lexicon."""
        return bool(self._config.select("lexicon").string("file"))

    @property
    def label_count(self) -> int:
        """How many labels the posteriors must have."""
        return len(self.lexicon.phonemes)

    def automaton(self, orthography: str) -> Automaton:
        """The CTC automaton of an orthography. Errors as parse_orthography."""
        lattice = parse_orthography(orthography, self.lexicon, self._optional_silence)
        for word in lattice.skipped:
            if word not in self._warned:
                self._warned.add(word)
                warn(f"skipping the unknown word {word!r} [orthography]")
        return build_automaton(lattice, self.lexicon.blank())

    def _forward_backward(self, orthography: str) -> ForwardBackward:
        return ForwardBackward(self.automaton(orthography))


class _CtcCriterion:
    """CTC, as RASR's CtcCriterion computes it with uniform priors of scale zero."""

    def __init__(self, config: Configuration, model: Model) -> None:
        self._log_space = config.boolean("input-in-log-space", False)
        self._model = model
        self._scratch = Scratch()
        # As in RASR, a model that cannot be loaded is noticed now, not at the first segment.
        model.lexicon.blank()

    def calculate(self, posteriors: Matrix, orthography: Optional[str], error_type: str) -> Optional[Outcome]:
        """As Criterion.calculate."""
        if not orthography:
            raise CriticalError("CTC needs the orthography of the segment [orthography]")
        labels, time_frames = posteriors.shape
        if labels != self._model.label_count:
            raise FailedAssertionError(
                f"{labels} labels in the posteriors, {self._model.label_count} in the model"
                " [refsprint-posteriors]"
            )
        if time_frames == 0:
            raise FailedAssertionError("the posteriors have no frames [refsprint-posteriors]")
        frames = posteriors.T
        maxima = frames.max(axis=1)
        # RASR looks at the first value only, and lets a NaN elsewhere through into the error signal.
        if np.isnan(maxima).any() or (not self._log_space and frames.min() < 0):
            raise FailedAssertionError("the logarithms of the posteriors have a NaN [refsprint-posteriors]")

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
        error = self._scratch.matrix(frames.shape[1], frames.shape[0]).T
        labels, occupation = result.labels, result.occupation
        if error_type == "pseudo-targets":
            error.fill(0.0)
            error[:, labels] = occupation
        elif self._log_space:
            # y - ŷ, where y is the softmax of what was given: RASR takes it for the input of a softmax.
            with np.errstate(invalid="ignore"):
                np.subtract(frames, maxima[:, np.newaxis], out=error)
                np.exp(error, out=error)
                error /= error.sum(axis=1, keepdims=True)
            error[:, labels] -= occupation.astype(np.float32)
            if error_type == "error-signal-before-softmax":
                # RASR now applies the derivative of a softmax whose output would be the logarithms. That
                # means nothing, but it is what a caller gets.
                inner = np.einsum("tl,tl->t", error, frames)
                error -= inner[:, np.newaxis]
                error *= frames
        elif error_type == "error-signal-before-softmax":
            np.copyto(error, frames)
            error[:, labels] -= occupation.astype(np.float32)
        else:
            # -ŷ / y, and 0 where neither has any mass.
            error.fill(0.0)
            given = frames[:, labels]
            error[:, labels] = -np.divide(occupation, given, out=np.zeros_like(occupation), where=given > 0)
        signal: Matrix = error.T
        return signal


class _NoCriterion:
    """RASR's criterion "none": loss 0, error signal 0."""

    def __init__(self) -> None:
        self._scratch = Scratch()

    def calculate(self, posteriors: Matrix, orthography: Optional[str], error_type: str) -> Outcome:
        """As Criterion.calculate."""
        if error_type in ("none", "pseudo-targets"):
            return Outcome(0.0, None)
        error = self._scratch.matrix(*posteriors.shape)
        error.fill(0.0)
        return Outcome(0.0, error)


class _NullCriterion:
    """Loss 0 and, as the error, the posteriors themselves: what remains is the cost of moving them."""

    def calculate(self, posteriors: Matrix, orthography: Optional[str], error_type: str) -> Outcome:
        """As Criterion.calculate."""
        return Outcome(0.0, None if error_type == "none" else posteriors)


class _SlowCriterion:
    """Delays another criterion. Other threads of the process stand still meanwhile, as with Sprint's own."""

    def __init__(self, criterion: Criterion, sleep: float, busy: float) -> None:
        self._criterion = criterion
        self._sleep = sleep
        self._busy = busy

    def calculate(self, posteriors: Matrix, orthography: Optional[str], error_type: str) -> Optional[Outcome]:
        """As Criterion.calculate."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600.0)
        try:
            _wait(self._sleep)
            end = time.perf_counter() + self._busy
            while time.perf_counter() < end:
                sum(range(1000))
        finally:
            sys.setswitchinterval(interval)
        return self._criterion.calculate(posteriors, orthography, error_type)


def create_criterion(config: Configuration, model: Model) -> Criterion:
    """Create the criterion that the options ask for.

    Errors:
        OptionError: the options are malformed.
        FileFormatError: the model cannot be loaded.
    """
    own = config.select("refsprint")
    kind = own.choice("criterion", ("ctc", "none", "null", ""), "")
    kind = kind or config.choice("training-criterion", ("ctc", "none"), "ctc")
    criterion: Criterion
    if kind == "ctc":
        criterion = _CtcCriterion(config, model)
    elif kind == "none":
        criterion = _NoCriterion()
    else:
        criterion = _NullCriterion()
    sleep, busy = own.seconds("criterion-sleep"), own.seconds("criterion-busy")
    return _SlowCriterion(criterion, sleep, busy) if sleep or busy else criterion


def _wait(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while (rest := end - time.perf_counter()) > 0:
        # Through PyDLL, which keeps the GIL; a signal interrupts it.
        _usleep(min(int(rest * 1e6) + 1, 3_600_000_000))
