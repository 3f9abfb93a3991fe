"""Tensors into the ring and error signals out of it, one pass over each where that can be.

What is called copy_in and copy_out here is what `SprintInstancePool.get_batch_loss` takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Optional

import torch

from ..errors import BatchError
from ..parent import SprintInstancePool, copying
from ..ring import Array
from . import cuda

# numpy has these, and C copies them in one pass with the look for NaN.
_NUMPY_DTYPES = (torch.float16, torch.float32, torch.float64)


def get_batch_loss(
    pool: SprintInstancePool,
    posteriors: torch.Tensor,
    seq_lengths: Array,
    tags: Sequence[Any],
    error_signal: Optional[torch.Tensor],
    *,
    from_logits: bool,
    pin_memory: bool,
) -> Array:
    """Run a batch of tensors, on any device.

    Args:
        pool: whose children compute.
        posteriors: (time,batch,label), log posteriors or logits; any float dtype, any strides.
        seq_lengths: (batch,) integers.
        tags: full segment names.
        error_signal: float32, of the shape and on the device of the posteriors; it is written. None: it is
            not kept.
        from_logits: the posteriors are logits, of which the log softmax is to be sent.
        pin_memory: whether the rings are registered with CUDA, if the posteriors lie there.

    Returns:
        loss (batch,) float32, infinite where Sprint discarded the segment.

    Raises:
        ShmbridgeError: as SprintInstancePool.get_batch_loss_and_error_signal.
        ResourceError: CUDA did not register the memory.
    """
    stream = cuda.copy_stream(posteriors.device) if posteriors.is_cuda else None

    def copy_in(target: Array, source: torch.Tensor, two_threads: bool) -> Optional[tuple[int, int]]:
        tensor = torch.from_numpy(target)
        if type(tensor) is not torch.Tensor:  # it would be written to instead of the ring
            raise BatchError(
                f"a mode of torch makes a {type(tensor).__name__} of the ring; call the loss outside of it: "
                "Sprint computes with values [no-values]"
            )
        if stream is not None:
            if from_logits:
                source = torch.log_softmax(source, -1, dtype=torch.float32)
            cuda.copy(tensor, source, stream)
        elif from_logits and source.device.type == "cpu":
            torch.log_softmax(source, -1, dtype=torch.float32, out=tensor)
        elif from_logits:
            tensor.copy_(torch.log_softmax(source, -1, dtype=torch.float32))
        elif source.device.type == "cpu" and source.dtype in _NUMPY_DTYPES:
            return copying.copy_rejecting_nan(target, source.resolve_neg().numpy(), two_threads)
        elif source.device.type == "cpu" and source.dtype == torch.bfloat16:
            bits = source.resolve_neg().view(torch.int16).numpy()
            return copying.copy_bfloat16(target, bits, two_threads)
        else:
            tensor.copy_(source)
        return copying.find_nan(target)

    def copy_out(target: torch.Tensor, source: Array, two_threads: bool) -> None:
        if stream is not None:
            cuda.copy(target, torch.from_numpy(source), stream)
        elif target.device.type != "cpu":
            target.copy_(torch.from_numpy(source))
        else:
            copying.copy_out(target.numpy(), source, two_threads)

    with cuda.side_stream(stream) if stream is not None else contextlib.nullcontext():
        if stream is not None and pin_memory:
            for memory in pool.memories:  # of a child that is started anew in this call, at the next one
                cuda.pin(memory, posteriors.device)
        return pool.get_batch_loss(
            posteriors, seq_lengths, tags, error_signal, copy_in=copy_in, copy_out=copy_out
        )
