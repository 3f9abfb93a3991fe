"""Batches in flight: a pool to which batches are submitted, while the trainer goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import ArrayLike

from ..ring import Array, FloatArray
from .arguments import check_batch, check_segments
from .batch_handle import BatchHandle
from .copying import copy_checked, copy_out
from .owned_pool import OwnedPool
from .segment_request import CopyIn, CopyOut

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
        posteriors, lengths, names, error_signal = check_batch(
            log_posteriors, seq_lengths, segment_names, out, pool.known_labels()
        )
        if copy:
            posteriors = np.array(posteriors, copy=True)
        return pool.background.submit(
            self, pool, posteriors, lengths, names, error_signal, copy_checked, copy_out, block=block
        )

    def submit_batch(
        self,
        posteriors: Any,
        seq_lengths: Any,
        segment_names: Any,
        error_signal: Any,
        *,
        copy_in: CopyIn = copy_checked,
        copy_out: CopyOut = copy_out,
    ) -> BatchHandle:
        """Like submit, for matrices that are not NumPy arrays. For shmbridge.torch.

        Args are those of run_batch; copy_in and copy_out are called in another thread. Errors: as submit.
        """
        pool = self._pool
        pool.check_open()
        lengths, names = check_segments(posteriors.shape, seq_lengths, segment_names, pool.known_labels())
        return pool.background.submit(self, pool, posteriors, lengths, names, error_signal, copy_in, copy_out)
