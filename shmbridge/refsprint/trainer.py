"""supervised-segmentwise-training: RASR's FeedForwardTrainer, fed with one segment after the other.

The order of the calls to Python is RASR's. The trainer, and with it PythonControl, comes into being at
the first segment, after getSegmentList was called and named that segment. PythonControl is told of each
segment before it is forwarded and of its loss after; a discarded segment has no loss. At the end the
layers are finalized; PythonControl's exit() is *not* called, as RASR's trainers do not.

An option of refsprint's own, ``refsprint.notifications=segmentwise``, makes the notifications those of RASR's
SegmentwiseNnTrainer, a part of another program: the unit's name, init_segment after forward, and
notify_segment_loss with the segment's name.

Another one, ``refsprint.abort-after-training=true``, ends the process as RASR (b6ff1a89) ends a training
with a Python layer: all is done and Python is finalized, then the layer's destructor fails an assertion
and the exit status is that of SIGABRT.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from shmbridge.errors import FileFormatError, OptionError

from .configuration import Configuration
from .console import log, warn
from .corpus import Segment
from .criterion import Model, create_criterion
from .features import Features
from .matrices import Matrix
from .network import Network
from .orthography import unknown_words
from .python_control import PythonControl
from .segment_order import visit

__all__ = ["train"]

_BUFFER_SIZE = 16384


def train(config: Configuration) -> None:
    """Visit the corpus and train on each segment.

    Errors:
        OptionError, FileFormatError: the options or files are not as they must be.
        CriticalError, FailedAssertionError: as in RASR.
    """
    config.choice("trainer", ("feed-forward-trainer",), "")
    if config.choice("buffer-type", ("minibatch", "utterance", "batch"), "minibatch") != "utterance":
        raise OptionError("segment-wise training needs --*.buffer-type=utterance [network]")
    if config.boolean("shuffle", True):
        raise OptionError("segment-wise training needs --*.shuffle=false [network]")
    buffer_size = config.integer("buffer-size", _BUFFER_SIZE)
    features = Features(config.select("feature-extraction"))
    model = Model(config)
    trainer: Optional[_Trainer] = None
    for segment in visit(config.select("corpus")):
        matrix = features.matrix(segment, _input_dimension(config, model))
        if matrix.shape[1] == 0:
            continue
        if matrix.shape[1] > buffer_size:
            warn(f"segment {segment.full_name!r} is longer than buffer-size: skipped [network]")
            continue
        if trainer is None:
            trainer = _Trainer(config, model, matrix.shape[0])
        trainer.process(segment, matrix)
    if trainer is None:
        # RASR has no trainer now and crashes.
        warn("there was no segment to train on [network]")
    else:
        trainer.finalize()


def _input_dimension(config: Configuration, model: Model) -> int:
    # In RASR the features tell. Where they are made up, the option of the lowest layer does, or the
    # model: then a network of identities fits.
    lowest = config.select("neural-network").string("links").partition("->")[2].partition(":")[0].strip()
    given = config.select(lowest).integer("dimension-input", 0) if lowest else 0
    return given or (model.label_count if model.has_lexicon else 1)


class _Trainer:
    def __init__(self, config: Configuration, model: Model, input_dimension: int) -> None:
        self._model = model
        self._log_space = config.boolean("input-in-log-space", False)
        kinds = ("feed-forward", "segmentwise")
        kind = config.select("refsprint").choice("notifications", kinds, kinds[0])
        self._segmentwise = kind == "segmentwise"
        # RASR's default, a dummy, wants neither gradient nor loss, and then the network is not even
        # evaluated.
        self._has_gradient = config.string("estimator", "dummy") not in ("dummy", "prior-estimator")
        self._criterion = create_criterion(config, model)
        self._control: Optional[PythonControl] = None
        if config.boolean("python-control-enabled", False):
            unit = "SegmentwiseNnTrainer" if self._segmentwise else "FeedForwardTrainer"
            self._control = PythonControl(config, unit)
        self._network = Network(config, input_dimension)
        log(f"network with {self._network.parameter_count} free parameters")
        self._discarded = 0

    def process(self, segment: Segment, features: Matrix) -> None:
        """Train on one segment."""
        self._check_words(segment)
        if not self._segmentwise:
            self._init_segment(segment)
        if not self._has_gradient:
            self._notify(segment, 0.0)
            return
        output = self._network.forward(features)
        if self._segmentwise:
            self._init_segment(segment)
        top = self._network.layers[-1]
        # The pairing of CTC with a softmax below it has a simple gradient, which RASR computes directly.
        paired = top.has_softmax and not self._log_space
        kind = "error-signal-before-softmax" if paired else "error-signal"
        outcome = self._criterion.calculate(output, segment.orthography, kind)
        if outcome is None or outcome.error is None:
            self._discarded += 1
            return
        error = outcome.error
        if not paired:
            # Where the Python layer is on top, this already is its backpropagate(): before the loss.
            error = top.backpropagate_activations(error, output)
        self._notify(segment, outcome.loss)
        self._network.backpropagate(error)

    def finalize(self) -> None:
        """All segments were seen."""
        if self._discarded:
            log(f"discarded segments: {self._discarded}")
        self._network.finalize()

    def _init_segment(self, segment: Segment) -> None:
        if self._control is not None:
            self._control.call("init_segment", segment_name=segment.full_name)

    def _notify(self, segment: Segment, loss: float) -> None:
        if self._control is not None:
            name = segment.full_name if self._segmentwise else None
            self._control.call("notify_segment_loss", segment_name=name, loss=float(np.float32(loss)))

    def _check_words(self, segment: Segment) -> None:
        if not self._model.has_lexicon:
            return
        unknown = unknown_words(segment.orthography, self._model.lexicon)
        if unknown:
            problem = (
                f"segment {segment.full_name!r}: the lexicon lacks the word {unknown[0]!r} [orthography]"
            )
            raise FileFormatError(segment.path, segment.line, problem)
