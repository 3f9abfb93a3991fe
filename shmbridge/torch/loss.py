"""Sprint's criterion as a loss of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
import torch

from ..errors import BatchError, OptionError, UsageError
from ..parent import SprintInstancePool
from ..parent.arguments import decode_name
from ..ring import Array
from .copying import get_batch_loss

REDUCTIONS = ("none", "sum", "mean")
DISCARDED = ("zero", "inf", "error")


@torch.compiler.disable(reason="shmbridge.torch.sprint_loss: Sprint computes in another process")
def sprint_loss(
    pool: SprintInstancePool,
    log_probs: torch.Tensor,
    seq_lengths: Union[torch.Tensor, Array, Sequence[int]],
    tags: Sequence[Any],
    *,
    reduction: str = "mean",
    batch_first: bool = False,
    from_logits: bool = False,
    discarded: str = "zero",
    pin_memory: bool = True,
) -> torch.Tensor:
    """Sprint's loss of a batch of segments, with its error signal for a gradient.

    The gradient with respect to log_probs is Sprint's "error-signal", y - y_hat, times the gradient that
    comes in: as torch.nn.CTCLoss does it, and right where log_probs is what log_softmax gave (docs/torch.md).

    Under torch.compile this is a graph break: what happens in another process cannot be traced.

    Thread-safety: the pool's.

    Args:
        pool: whose children compute. It stays the caller's to close.
        log_probs: (time,batch,label), on any device, of any float dtype, with any strides: what log_softmax
            gave. What lies beyond a segment's length is not looked at.
        seq_lengths: (batch,) frames of each segment, any integer dtype, on any device (on the CPU, no copy
            has to be waited for).
        tags: full segment names, one for each.
        reduction: "none": the loss of each segment; "sum": their sum; "mean": their sum divided by the number
            of segments that Sprint did not discard (by 1, where it discarded all). Unlike torch.nn.CTCLoss,
            "mean" does not divide by the numbers of labels, which Sprint alone knows.
        batch_first: log_probs is (batch,time,label).
        from_logits: log_probs are logits: their log softmax is computed in float32 and written straight into
            the ring, and the gradient is that of the logits.
        discarded: what a segment's loss is that Sprint discards (too short for its words, a bad lattice):
            "zero", "inf", or "error": BatchError. Its gradient is zero in any case.
        pin_memory: for CUDA: register the rings as pinned memory, once for each child.

    Returns:
        loss, a scalar or (batch,), on the device of log_probs: float64 if that is, else float32.

    Raises:
        OptionError: reduction or discarded is none of these.
        BatchError: the arguments do not fit together, there is a NaN or a segment without frames; or Sprint
            discarded a segment, where that is to be an error.
        UsageError: in the backward, with create_graph=True: there is no second derivative.
        ResourceError: CUDA did not register the memory.
        SegmentTooLargeError, RemoteError, PeerGoneError, ClosedError: as in
            SprintInstancePool.get_batch_loss_and_error_signal.
    """
    _check_options(reduction, discarded)
    _check_tensor(log_probs, batch_first)
    lengths = seq_lengths.detach().cpu().numpy() if isinstance(seq_lengths, torch.Tensor) else seq_lengths
    by_time = log_probs.transpose(0, 1) if batch_first else log_probs
    loss: torch.Tensor
    loss, counted = _Criterion.apply(
        by_time, pool, lengths, tags, torch.is_grad_enabled(), discarded, from_logits, pin_memory
    )
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / max(counted, 1)


class SprintLoss(torch.nn.Module):
    """`sprint_loss` as a module. It has no parameters, and the pool is no part of its state.

    A copy has the same pool; as a whole it cannot be pickled.

    Args:
        pool: whose children compute. It belongs to the process that created it: create one in each.
        reduction, batch_first, from_logits, discarded, pin_memory: as in `sprint_loss`.

    Raises:
        OptionError: reduction or discarded is none of those.
    """

    def __init__(
        self,
        pool: SprintInstancePool,
        *,
        reduction: str = "mean",
        batch_first: bool = False,
        from_logits: bool = False,
        discarded: str = "zero",
        pin_memory: bool = True,
    ) -> None:
        super().__init__()
        _check_options(reduction, discarded)
        self.pool = pool
        self.reduction = reduction
        self.batch_first = batch_first
        self.from_logits = from_logits
        self.discarded = discarded
        self.pin_memory = pin_memory

    def forward(
        self,
        log_probs: torch.Tensor,
        seq_lengths: Union[torch.Tensor, Array, Sequence[int]],
        tags: Sequence[Any],
    ) -> torch.Tensor:
        """The loss; arguments, result and errors are those of `sprint_loss`."""
        loss: torch.Tensor = sprint_loss(
            self.pool,
            log_probs,
            seq_lengths,
            tags,
            reduction=self.reduction,
            batch_first=self.batch_first,
            from_logits=self.from_logits,
            discarded=self.discarded,
            pin_memory=self.pin_memory,
        )
        return loss

    def extra_repr(self) -> str:
        """The options, as they show in the printed module."""
        return (
            f"{self.pool!r}, reduction={self.reduction!r}, batch_first={self.batch_first}, "
            f"from_logits={self.from_logits}, discarded={self.discarded!r}"
        )


class _Criterion(torch.autograd.Function):
    """Loss (batch,) of (time,batch,label), and how many segments Sprint did not discard."""

    @staticmethod
    def forward(
        ctx: Any,
        log_probs: torch.Tensor,
        pool: SprintInstancePool,
        lengths: Array,
        tags: Sequence[Any],
        grad_enabled: bool,
        discarded: str,
        from_logits: bool,
        pin_memory: bool,
    ) -> tuple[torch.Tensor, int]:
        """Both loss and error signal: Sprint gives them together."""
        error_signal: Optional[torch.Tensor] = None
        if grad_enabled and ctx.needs_input_grad[0]:
            error_signal = torch.empty_like(log_probs, dtype=torch.float32)
        losses = get_batch_loss(
            pool, log_probs, lengths, tags, error_signal, from_logits=from_logits, pin_memory=pin_memory
        )
        skipped = np.isinf(losses)
        if skipped.any():
            if discarded == "error":
                names = ", ".join(repr(decode_name(tag)[0]) for tag, skip in zip(tags, skipped) if skip)
                raise BatchError(
                    f"Sprint discarded the segments {names}: its log says why; a usual reason are too few "
                    'frames for the words. discarded="zero" goes on without them [skipped]'
                )
            if discarded == "zero":
                losses[skipped] = 0
        dtype = torch.float64 if log_probs.dtype == torch.float64 else torch.float32
        if error_signal is not None:
            kept = torch.from_numpy(~skipped).to(log_probs.device)
            ctx.save_for_backward(error_signal, kept)
            ctx.dtype = log_probs.dtype
        return torch.from_numpy(losses).to(log_probs.device, dtype), int((~skipped).sum())

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> tuple[Optional[torch.Tensor], ...]:
        """The error signal, scaled by the gradient of each segment's loss."""
        if torch.is_grad_enabled():  # the error signal would pass for a constant
            raise UsageError(
                "create_graph=True asks for a second derivative, and Sprint's loss has none; leave this loss "
                "out of what is differentiated so [second-derivative]"
            )
        error_signal, kept = ctx.saved_tensors
        # An infinite loss can make the incoming gradient anything; times 0 that would be NaN.
        scale = torch.where(kept, grad_loss, 0).to(torch.float32)[None, :, None]
        gradient = torch.empty_like(error_signal, dtype=ctx.dtype)
        torch.mul(error_signal, scale, out=gradient)
        return gradient, None, None, None, None, None, None, None


def _check_options(reduction: str, discarded: str) -> None:
    for name, value, choices in (("reduction", reduction, REDUCTIONS), ("discarded", discarded, DISCARDED)):
        if value not in choices:
            raise OptionError(
                f"{name} is {value!r}; it has to be one of {', '.join(map(repr, choices))} [loss-input]"
            )


def _check_tensor(log_probs: Any, batch_first: bool) -> None:
    if not isinstance(log_probs, torch.Tensor):
        raise BatchError(
            f"log_probs is of type {type(log_probs).__name__}; it has to be a torch.Tensor [loss-input]"
        )
    if log_probs.is_nested or log_probs.layout != torch.strided:
        layout = "nested" if log_probs.is_nested else log_probs.layout
        raise BatchError(
            f"log_probs has the layout {layout}; it has to be dense: pad it, or call to_dense() [loss-input]"
        )
    if log_probs.ndim != 3:
        axes = "(batch,time,label)" if batch_first else "(time,batch,label)"
        raise BatchError(
            f"log_probs has the shape {tuple(log_probs.shape)}; it has to be {axes} [loss-input]"
        )
    if not log_probs.is_floating_point():
        raise BatchError(f"log_probs has the dtype {log_probs.dtype}; it has to be a float [loss-input]")
