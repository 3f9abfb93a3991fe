"""Copy tensors into the rings and error signals out of them, in one pass if possible."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Optional

import torch

from ..errors import BatchError
from ..parent import SprintInstancePool, copying
from ..ring import Array
from . import cuda

# The float dtypes that NumPy shares with torch. C copies these and checks their values in the same pass.
_NUMPY_DTYPES = (torch.float16, torch.float32, torch.float64)


def get_batch_loss(
    pool: SprintInstancePool,
    posteriors: torch.Tensor,
    seq_lengths: Array,
    segment_names: Any,
    error_signal: Optional[torch.Tensor],
    *,
    from_logits: bool,
    pin_memory: bool,
) -> Array:
    """Run a batch of tensors, on any device.

    Args:
        pool: the pool that computes.
        posteriors: (time,batch,label) log posteriors or logits; any float dtype, any strides.
        seq_lengths: (batch,) integers.
        segment_names: full segment names.
        error_signal: float32 tensor to write to, of the shape and on the device of the posteriors; None
            drops the error signal.
        from_logits: whether the posteriors are logits, so that their log softmax is sent.
        pin_memory: whether to register the rings with CUDA if the posteriors are on a CUDA device.

    Returns:
        loss (batch,) float32, infinite for skipped segments.

    Raises:
        ShmbridgeError: as SprintInstancePool.get_batch_loss_and_error_signal.
        ResourceError: CUDA did not register the memory.
    """
    on_cpu = posteriors.device.type == "cpu"
    stream = cuda.copy_stream(posteriors.device) if posteriors.is_cuda else None
    copy: Callable[[torch.Tensor, torch.Tensor], object] = (
        torch.Tensor.copy_ if stream is None else functools.partial(cuda.copy, stream=stream)
    )

    def copy_in(target: Array, source: torch.Tensor, second_thread: bool) -> Optional[tuple[int, int]]:
        tensor = torch.from_numpy(target)
        if type(tensor) is not torch.Tensor:  # log_softmax would not write into the ring
            raise BatchError(
                f"an active torch mode makes a {type(tensor).__name__} of shared memory, and Sprint needs "
                "values; call the loss outside of that mode [no-values]"
            )
        if on_cpu and from_logits:
            torch.log_softmax(source, -1, dtype=torch.float32, out=tensor)
        elif on_cpu and source.dtype in _NUMPY_DTYPES:
            return copying.copy_checked(target, source.resolve_neg().numpy(), second_thread)
        elif on_cpu and source.dtype == torch.bfloat16:
            bits = source.resolve_neg().view(torch.int16).numpy()
            return copying.copy_bfloat16(target, bits, second_thread)
        else:
            copy(tensor, torch.log_softmax(source, -1, dtype=torch.float32) if from_logits else source)
        return copying.find_invalid(target)

    def copy_out(target: torch.Tensor, source: Array, second_thread: bool) -> None:
        if on_cpu:
            copying.copy_out(target.numpy(), source, second_thread)
        else:
            copy(target, torch.from_numpy(source))

    with cuda.side_stream(stream) if stream is not None else contextlib.nullcontext():
        if stream is not None and pin_memory:
            for memory in pool.memories:  # that of a child that restarts during this call: at the next call
                cuda.pin(memory, posteriors.device)
        return pool.run_batch(
            posteriors, seq_lengths, segment_names, error_signal, copy_in=copy_in, copy_out=copy_out
        )
