"""supervised-segmentwise-training: RASR's FeedForwardTrainer on one segment at a time.

The order of the calls to Python is RASR's. The trainer, and with it PythonControl, is created at the first
segment, after getSegmentList named that segment. PythonControl receives init_segment before the forward pass
and notify_segment_loss after it, unless the segment is skipped. At the end the layers are finalized. As in
RASR's trainers, PythonControl's exit() is *not* called.

``refsprint.notifications=segmentwise`` selects the notifications of SegmentwiseNnTrainer, which is part of
another program of RASR: its unit name, init_segment after the forward pass, and notify_segment_loss with the
segment name.

``refsprint.abort-after-training=true`` ends the process as RASR (b6ff1a89) ends a training with a Python
layer: after the training and Python's finalization, the layer's destructor fails an assertion (SIGABRT).
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from shmbridge.bliss.corpus import Segment
from shmbridge.errors import OptionError

from .configuration import Configuration
from .console import log, warn
from .criterion import Model, create_criterion
from .features import Features
from .matrices import Matrix
from .network import Network, input_dimension
from .python_control import PythonControl
from .segment_order import visit

__all__ = ["train"]


def train(config: Configuration) -> None:
    """Train on each segment of the corpus.

    Raises:
        OptionError: an option is wrong.
        FileFormatError: a file is missing or malformed.
        CriticalError, FailedAssertionError: as in RASR.
    """
    config.choice("trainer", ("feed-forward-trainer",), "")
    if config.choice("buffer-type", ("minibatch", "utterance", "batch"), "minibatch") != "utterance":
        raise OptionError("segment-wise training requires --*.buffer-type=utterance [network]")
    if config.boolean("shuffle", True):
        raise OptionError("segment-wise training requires --*.shuffle=false [network]")
    buffer_size = config.integer("buffer-size", 16384)
    features = Features(config.select("feature-extraction"))
    model = Model(config)
    trainer: Optional[_Trainer] = None
    for segment in visit(config.select("corpus")):
        matrix = features.matrix(segment, _input_dimension(config, model))
        if matrix.shape[1] == 0:
            continue
        if matrix.shape[1] > buffer_size:
            problem = f"segment {segment.full_name!r} has more than buffer-size={buffer_size} frames"
            warn(f"{problem}; it is skipped [network]")
            continue
        if trainer is None:
            trainer = _Trainer(config, model, matrix.shape[0])
        trainer.process(segment, matrix)
    if trainer is None:
        # RASR crashes here.
        warn("there is no segment to train on [network]")
    else:
        trainer.finalize()


def _input_dimension(config: Configuration, model: Model) -> int:
    # In RASR the features have a dimension. For zeros, it comes from the options of the lowest layer or, for
    # a network of identities, from the model.
    return input_dimension(config) or (model.num_labels if model.has_lexicon else 1)


class _Trainer:
    def __init__(self, config: Configuration, model: Model, input_dimension: int) -> None:
        self._log_space = config.boolean("input-in-log-space", False)
        kinds = ("feed-forward", "segmentwise")
        self._segmentwise = config.select("refsprint").choice("notifications", kinds, kinds[0]) == kinds[1]
        # RASR's default estimator, a dummy, needs neither gradient nor loss: RASR does not run the network.
        self._has_gradient = config.string("estimator", "dummy") not in ("dummy", "prior-estimator")
        self._criterion = create_criterion(config, model)
        self._control: Optional[PythonControl] = None
        if config.boolean("python-control-enabled", False):
            unit = "SegmentwiseNnTrainer" if self._segmentwise else "FeedForwardTrainer"
            self._control = PythonControl(config, unit)
        self._network = Network(config, input_dimension)
        log(f"network with {self._network.num_parameters} free parameters")
        self._num_skipped = 0

    def process(self, segment: Segment, features: Matrix) -> None:
        if not self._segmentwise:
            self._call("init_segment", segment_name=segment.full_name)
        if not self._has_gradient:
            self._notify(segment, 0.0)
            return
        output = self._network.forward(features)
        if self._segmentwise:
            self._call("init_segment", segment_name=segment.full_name)
        top = self._network.layers[-1]
        # RASR directly computes the simple gradient of CTC on top of a softmax.
        paired = top.has_softmax and not self._log_space
        kind = "error-signal-before-softmax" if paired else "error-signal"
        outcome = self._criterion(output, segment.orthography, kind)
        if outcome is None or outcome.error is None:
            self._num_skipped += 1
            return
        error = outcome.error
        if not paired:
            # If the Python layer is on top, this calls its backpropagate(), before notify_segment_loss.
            error = top.backpropagate_activations(error, output)
        self._notify(segment, outcome.loss)
        self._network.backpropagate(error)

    def finalize(self) -> None:
        if self._num_skipped:
            log(f"skipped segments: {self._num_skipped}")
        self._network.finalize()

    def _notify(self, segment: Segment, loss: float) -> None:
        name = segment.full_name if self._segmentwise else None
        self._call("notify_segment_loss", segment_name=name, loss=float(np.float32(loss)))

    def _call(self, method: str, **arguments: Any) -> None:
        if self._control is not None:
            self._control.call(method, **arguments)
