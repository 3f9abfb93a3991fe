"""shmbridge as RETURNN uses it: a batch of arrays in, an array out."""

from __future__ import annotations

from ..sprint import open_pool
from .peer import Peer


class Batch(Peer):
    """get_batch_loss_and_error_signal, which returns a new array for the error signal."""

    def _start(self) -> None:
        self._pool = self.resources.enter_context(open_pool(self.work.nbytes))

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        _, error_signal = self._pool.get_batch_loss_and_error_signal(work.posteriors, work.lengths, work.tags)
        return float(error_signal[0, 0, 0])


class BatchOut(Batch):
    """get_batch_loss_and_error_signal with `out=`."""

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        self._pool.get_batch_loss_and_error_signal(
            work.posteriors, work.lengths, work.tags, out=work.error_signal
        )
        return float(work.error_signal[0, 0, 0])
