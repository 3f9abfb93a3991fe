"""Minimum phone error (ME) with CTC smoothing: the sum of two criteria, each from its own pool."""

from __future__ import annotations

import numpy as np

from .data import FloatArray, IntArray
from .lattices import sprint_name
from .sprint import ACOUSTIC_SCALE
from .train import Exchange, TrainingError

# ME compares the paths of a lattice only. Without CTC, the network forgets that other labels are wrong.
_WEIGHT = 3.0


class MinimumError:
    """CTC plus minimum error.

    Args:
        ctc: the exchange with nn-trainer.
        lattices: the exchange with lattice-processor.
    """

    def __init__(self, ctc: Exchange, lattices: Exchange) -> None:
        self._ctc = ctc
        self._lattices = lattices

    @property
    def seconds(self) -> float:
        """The total time in both exchanges."""
        return self._ctc.seconds + self._lattices.seconds

    def __call__(
        self, log_posteriors: FloatArray, lengths: IntArray, names: list[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the loss of CTC, (batch,) float32, and the error signal of the sum, (time, batch, label).

        Raises:
            TrainingError: lattice-processor skipped the whole batch.
        """
        loss, error_signal = self._ctc(log_posteriors, lengths, names)
        loss_of_lattices, of_lattices = self._lattices(
            log_posteriors, lengths, [sprint_name(name) for name in names]
        )
        if not np.isfinite(loss_of_lattices).any():
            raise TrainingError("lattice-processor skipped each segment of a batch; check its log")
        # Sprint's error signal of a lattice criterion lacks the acoustic scale.
        return loss, error_signal + (_WEIGHT * ACOUSTIC_SCALE) * of_lattices
