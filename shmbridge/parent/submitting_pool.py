"""Batches in flight: a pool to which batches are submitted, while the trainer goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from numpy.typing import ArrayLike

from ..ring import Array, FloatArray
from .arguments import check_batch
from .batch_handle import BatchHandle
from .owned_pool import OwnedPool

__all__ = ["SubmittingPool"]


class SubmittingPool(OwnedPool):
    """A pool to which batches are submitted. Args: as OwnedPool."""

    def submit(
        self,
        log_posteriors: ArrayLike,
        seq_lengths: Union[Array, Sequence[int]],
        segment_names: Union[Sequence[Any], Array],
        *,
        out: Optional[FloatArray] = None,
        copy: bool = False,
        block: bool = True,
    ) -> BatchHandle:
        """Submit a batch, and return at once: a thread of the pool has Sprint answer it.

        Segments of the next batch fill the children that the end of this one leaves idle. The results are
        those of get_batch_loss_and_error_signal. Other calls of the pool may be made meanwhile.

        Args:
            log_posteriors, seq_lengths, segment_names, out: as in get_batch_loss_and_error_signal. Do not
                change log_posteriors until `handle.sent`, nor read `out` until the segment is completed.
            copy: copy log_posteriors now, so that they may be changed at once.
            block: whether to wait while max_batches_in_flight batches are in flight.

        Returns:
            A concurrent.futures.Future for the BatchResult.

        Raises:
            BatchError: the arguments do not agree. All other errors come from the handle.
            BufferError: max_batches_in_flight batches are in flight, and `block` is False, or this is called
                by a done callback.
            ClosedError, UsageError: the pool was closed; this process is a fork.
            ResourceError: no thread is left.
        """
        pool = self._pool
        pool.check_open()
        arguments = check_batch(log_posteriors, seq_lengths, segment_names, out, pool.known_labels())
        if copy:
            arguments = (arguments[0].copy(), *arguments[1:])
        return pool.background.submit(self, pool, arguments, block=block)
