"""Sprint's criterion as a PyTorch loss."""

from __future__ import annotations

from typing import Any, Optional

import torch

from ..deprecation import accept_old_names
from ..errors import BatchError, UsageError
from ..parent import SprintInstancePool
from ..parent.arguments import decode_name
from ..ring import Array
from .arguments import (
    Lengths,
    Reduction,
    SegmentNames,
    SkippedLoss,
    check_choice,
    check_pool,
    check_scale,
    check_tensor,
    outside_the_graph,
    to_array,
)
from .batch_losses import gradient_factors, reduce_losses, replace_skipped
from .copying import get_batch_loss

_OLD_NAMES = {"discarded": "skipped", "tags": "segment_names"}


@outside_the_graph("shmbridge.torch.sprint_loss: Sprint computes in another process")
@accept_old_names(_OLD_NAMES, stacklevel=3)
def sprint_loss(
    pool: SprintInstancePool,
    log_probs: torch.Tensor,
    seq_lengths: Lengths,
    segment_names: SegmentNames,
    *,
    reduction: Reduction = "mean",
    batch_first: bool = False,
    from_logits: bool = False,
    skipped: SkippedLoss = "zero",
    pin_memory: bool = True,
    error_signal_scale: float = 1.0,
) -> torch.Tensor:
    """Return Sprint's loss of a batch of segments; its gradient is Sprint's error signal.

    The gradient with respect to log_probs is Sprint's "error-signal", y - y_hat, times error_signal_scale and
    the incoming gradient. As with torch.nn.CTCLoss, it is correct if log_probs is the output of log_softmax
    (docs/torch.md).

    Under torch.compile, each call is a graph break.

    Thread-safety: that of the pool.

    Args:
        pool: the pool that computes. The caller closes it.
        log_probs: (time,batch,label) log posteriors, the output of log_softmax; any device, float dtype and
            strides. Values beyond a segment's length are ignored.
        seq_lengths: (batch,) number of frames of each segment; any integer dtype, any device. Lengths on the
            CPU save a synchronization.
        segment_names: full segment names, one for each segment.
        reduction: "none" returns the loss of each segment, "sum" their sum, and "mean" the sum divided by the
            number of segments that Sprint did not skip: NaN if it skipped all. Unlike torch.nn.CTCLoss,
            "mean" does not divide by the number of labels, which is known to Sprint only.
        batch_first: whether log_probs is (batch,time,label).
        from_logits: whether log_probs are logits. Their log softmax is computed in float32, on the CPU
            directly into the ring, and the gradient is that of the logits.
        skipped: the loss of a segment that Sprint skips (too few frames for its words, a bad lattice):
            "zero", "inf", or "error" to raise BatchError. Its gradient is always zero.
        pin_memory: whether to register the rings with CUDA as pinned memory, once for each child, if
            log_probs is on a CUDA device.
        error_signal_scale: the factor, positive and finite, by which Sprint's error signal is smaller than
            the gradient of its loss: the acoustic scale of a lattice criterion, else 1. The loss is not
            scaled.

    Returns:
        loss, a scalar or (batch,), on the device of log_probs: float64 if log_probs is float64, else float32.

    Raises:
        OptionError: pool is not a pool; reduction or skipped is not a valid choice; or error_signal_scale is
            not a positive, finite number.
        BatchError: the arguments do not fit together, a value is NaN or a segment has no frames; or Sprint
            skipped a segment and `skipped` is "error".
        UsageError: in the backward pass, with create_graph=True: Sprint's loss has no second derivative.
        ResourceError: CUDA did not register the memory.
        SegmentTooLargeError, RemoteError, PeerGoneError, ClosedError: as in
            SprintInstancePool.get_batch_loss_and_error_signal.
    """
    _check_options(pool, reduction, skipped, error_signal_scale)
    check_tensor(log_probs, batch_first)
    lengths = to_array(seq_lengths)
    by_time = log_probs.transpose(0, 1) if batch_first else log_probs
    loss: torch.Tensor
    loss, num_answered = _Criterion.apply(
        by_time,
        pool,
        lengths,
        segment_names,
        torch.is_grad_enabled(),
        skipped,
        from_logits,
        pin_memory,
        error_signal_scale,
    )
    return reduce_losses(loss, num_answered, reduction)


class SprintLoss(torch.nn.Module):
    """`sprint_loss` as a module, without parameters and with an empty state_dict.

    A copy, deep or shallow, uses the same pool. The module itself cannot be pickled.

    Args:
        pool: the pool that computes. It works only in the process that created it.
        reduction, batch_first, from_logits, skipped, pin_memory, error_signal_scale: as in `sprint_loss`.

    Raises:
        OptionError: as in `sprint_loss`.
    """

    @accept_old_names(_OLD_NAMES)
    def __init__(
        self,
        pool: SprintInstancePool,
        *,
        reduction: Reduction = "mean",
        batch_first: bool = False,
        from_logits: bool = False,
        skipped: SkippedLoss = "zero",
        pin_memory: bool = True,
        error_signal_scale: float = 1.0,
    ) -> None:
        super().__init__()
        _check_options(pool, reduction, skipped, error_signal_scale)
        self.pool = pool
        self.reduction = reduction
        self.batch_first = batch_first
        self.from_logits = from_logits
        self.skipped = skipped
        self.pin_memory = pin_memory
        self.error_signal_scale = error_signal_scale

    @accept_old_names(_OLD_NAMES, stacklevel=4)  # below Module.__call__
    def forward(
        self,
        log_probs: torch.Tensor,
        seq_lengths: Lengths,
        segment_names: SegmentNames,
    ) -> torch.Tensor:
        """Return the loss; arguments, result and errors are those of `sprint_loss`."""
        return sprint_loss(
            self.pool,
            log_probs,
            seq_lengths,
            segment_names,
            reduction=self.reduction,
            batch_first=self.batch_first,
            from_logits=self.from_logits,
            skipped=self.skipped,
            pin_memory=self.pin_memory,
            error_signal_scale=self.error_signal_scale,
        )

    def extra_repr(self) -> str:
        """Return the options, for the printed module."""
        return (
            f"{self.pool!r}, reduction={self.reduction!r}, batch_first={self.batch_first}, "
            f"from_logits={self.from_logits}, skipped={self.skipped!r}, "
            f"error_signal_scale={self.error_signal_scale}"
        )


class _Criterion(torch.autograd.Function):
    """Loss (batch,) of (time,batch,label), and the number of segments that Sprint did not skip."""

    @staticmethod
    def forward(
        ctx: Any,
        log_probs: torch.Tensor,
        pool: SprintInstancePool,
        lengths: Array,
        segment_names: Any,
        grad_enabled: bool,
        skipped: SkippedLoss,
        from_logits: bool,
        pin_memory: bool,
        error_signal_scale: float,
    ) -> tuple[torch.Tensor, int]:
        """Compute the loss and, if it is needed, store the error signal, which Sprint computes with it."""
        error_signal: Optional[torch.Tensor] = None
        if grad_enabled and ctx.needs_input_grad[0]:
            error_signal = torch.empty_like(log_probs, dtype=torch.float32)
        losses = get_batch_loss(
            pool,
            log_probs,
            lengths,
            segment_names,
            error_signal,
            from_logits=from_logits,
            pin_memory=pin_memory,
        )

        def skipped_error(answered: Array) -> BatchError:
            names = [decode_name(name)[0] for name, good in zip(segment_names, answered) if not good]
            return BatchError(
                f"Sprint skipped the segments {', '.join(map(repr, names))}, often for too few frames or a "
                'bad lattice; read its log, or pass skipped="zero" to train without them [skipped]'
            )

        answered = replace_skipped(losses, skipped, skipped_error)
        dtype = torch.float64 if log_probs.dtype == torch.float64 else torch.float32
        if error_signal is not None:
            ctx.save_for_backward(error_signal, torch.from_numpy(answered).to(log_probs.device))
            ctx.dtype = log_probs.dtype
            ctx.error_signal_scale = error_signal_scale
        return torch.from_numpy(losses).to(log_probs.device, dtype), int(answered.sum())

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> tuple[Optional[torch.Tensor], ...]:
        """Return the error signal, scaled by the gradient of each segment's loss."""
        if torch.is_grad_enabled():  # autograd would treat the error signal as a constant
            raise UsageError(
                "create_graph=True requests a second derivative, which Sprint's loss does not have; exclude "
                "this loss from that backward pass [second-derivative]"
            )
        error_signal, answered = ctx.saved_tensors
        scale = gradient_factors(grad_loss, answered, ctx.error_signal_scale).to(torch.float32)
        gradient = torch.empty_like(error_signal, dtype=ctx.dtype)
        torch.mul(error_signal, scale, out=gradient)
        return gradient, *[None] * 8


def _check_options(pool: Any, reduction: str, skipped: str, error_signal_scale: Any) -> None:
    check_pool(pool)
    check_choice("reduction", reduction, Reduction)
    check_choice("skipped", skipped, SkippedLoss)
    check_scale("error_signal_scale", error_signal_scale)
