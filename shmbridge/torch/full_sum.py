"""The full-sum loss: the sum over all paths of Sprint's automata, on the device of the network."""

from __future__ import annotations

from typing import Any, Literal, Optional

import numpy as np
import torch

from ..errors import BatchError, OptionError, UsageError
from ..parent import SprintInstancePool
from ..ring import Array
from . import native_sums, portable_sums
from .arguments import (
    Lengths,
    Reduction,
    SegmentNames,
    SkippedLoss,
    check_choice,
    check_pool,
    outside_the_graph,
)
from .batch_losses import gradient_factors, reduce_losses, replace_skipped
from .path_inputs import AutomataLike, LogPrior, PathInputs, Scales, check_sums, prepare

Backend = Literal["auto", "native", "torch"]


@outside_the_graph("shmbridge.torch.full_sum_loss: the automata differ in each batch")
def full_sum_loss(
    log_probs: torch.Tensor,
    seq_lengths: Lengths,
    automata: AutomataLike,
    *,
    reduction: Reduction = "mean",
    batch_first: bool = False,
    skipped: SkippedLoss = "zero",
    log_prior: LogPrior = None,
    acoustic_scale: float = 1.0,
    prior_scale: float = 1.0,
    transition_scale: float = 1.0,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Return -ln of the sum over all paths of each sequence's automaton.

    The score of a path is the sum over its edges of acoustic_scale * log_probs - prior_scale * log_prior -
    transition_scale * weights. Each edge consumes one frame. The gradient is the exact derivative: minus the
    probability, given the automaton, that a path emits the label in the frame. The sum is computed in
    float64 or with as much precision.

    Under torch.compile, each call is a graph break.

    Thread-safety: may be called from several threads.

    Args:
        log_probs: (time,batch,label); any device, float dtype and strides. They need not be normalized.
            Values beyond a sequence's length, and of labels that its automaton does not have, are ignored.
        seq_lengths: (batch,) number of frames of each sequence; any integer dtype, any device.
        automata: edges (4,E), weights (E,) and start_end_states (2,batch), as
            `SprintInstancePool.get_automata_for_batch` returns them; arrays, or tensors on any device.
        reduction: "none" returns the loss of each sequence, "sum" their sum, and "mean" the sum divided by
            the number of sequences that have a path: NaN if there are none.
        batch_first: whether log_probs is (batch,time,label).
        skipped: the loss of a sequence without a path (too few frames, or scores of -inf): "zero", "inf", or
            "error" to raise BatchError. Its gradient is always zero.
        log_prior: (label,) logarithms of the prior of the labels, which is subtracted; a tensor may require a
            gradient.
        acoustic_scale, prior_scale, transition_scale: factors, finite and not negative.
        backend: "native" computes in C, on the CPU; "torch" in torch operations, on any device; "auto"
            chooses the faster one that supports the device.

    Returns:
        loss, a scalar or (batch,), on the device of log_probs: float64 if log_probs is float64, else float32.

    Raises:
        OptionError: an option is invalid, or the backend does not support the device.
        BatchError: the arguments do not fit together, the automata are invalid, or a score that they use is
            NaN or plus infinity; or a sequence has no path and `skipped` is "error".
        UsageError: in the backward pass, with create_graph=True: the second derivative is not implemented.
        ResourceError: memory is short.
    """
    _check_options(reduction, skipped, backend)
    scales = Scales(log_prior, acoustic_scale, prior_scale, transition_scale)
    inputs = prepare(log_probs, seq_lengths, automata, batch_first, scales)
    if backend == "native" and log_probs.device.type != "cpu":
        raise OptionError(
            f'backend is "native"; it must be "auto" or "torch" on the device {log_probs.device} [loss-input]'
        )
    is_native = log_probs.device.type == "cpu" and backend != "torch"
    loss: torch.Tensor
    loss, num_answered = _FullSum.apply(inputs.scores, inputs, torch.is_grad_enabled(), skipped, is_native)
    return reduce_losses(loss, num_answered, reduction)


class FullSumLoss(torch.nn.Module):
    """`full_sum_loss` over the automata of segments, which Sprint builds. No parameters, an empty state_dict.

    A copy, deep or shallow, uses the same pool. The module itself cannot be pickled.

    Args:
        pool: the pool that gives the automata. It works only in the process that created it.
        reduction, batch_first, skipped, log_prior, acoustic_scale, prior_scale, transition_scale, backend:
            as in `full_sum_loss`.

    Raises:
        OptionError: pool is not a pool, or an option is invalid.
    """

    def __init__(
        self,
        pool: SprintInstancePool,
        *,
        reduction: Reduction = "mean",
        batch_first: bool = False,
        skipped: SkippedLoss = "zero",
        log_prior: LogPrior = None,
        acoustic_scale: float = 1.0,
        prior_scale: float = 1.0,
        transition_scale: float = 1.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_pool(pool)
        _check_options(reduction, skipped, backend)
        Scales(log_prior, acoustic_scale, prior_scale, transition_scale).check()
        self.pool = pool
        self.reduction = reduction
        self.batch_first = batch_first
        self.skipped = skipped
        self.log_prior = log_prior
        self.acoustic_scale = acoustic_scale
        self.prior_scale = prior_scale
        self.transition_scale = transition_scale
        self.backend = backend

    def forward(
        self, log_probs: torch.Tensor, seq_lengths: Lengths, segment_names: SegmentNames
    ) -> torch.Tensor:
        """Return the loss of these segments.

        Args:
            log_probs, seq_lengths: as in `full_sum_loss`.
            segment_names: full segment names, one for each segment.

        Raises:
            ShmbridgeError: as `full_sum_loss` and `SprintInstancePool.get_automata_for_batch`.
        """
        return full_sum_loss(
            log_probs,
            seq_lengths,
            self.pool.get_automata_for_batch(segment_names),
            reduction=self.reduction,
            batch_first=self.batch_first,
            skipped=self.skipped,
            log_prior=self.log_prior,
            acoustic_scale=self.acoustic_scale,
            prior_scale=self.prior_scale,
            transition_scale=self.transition_scale,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        """Return the options, for the printed module."""
        return (
            f"{self.pool!r}, reduction={self.reduction!r}, batch_first={self.batch_first}, "
            f"skipped={self.skipped!r}, has_prior={self.log_prior is not None}, "
            f"acoustic_scale={self.acoustic_scale}, prior_scale={self.prior_scale}, "
            f"transition_scale={self.transition_scale}, backend={self.backend!r}"
        )


class _FullSum(torch.autograd.Function):
    """Loss (batch,) of the scores (time,batch,label), and the number of sequences that have a path."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: torch.Tensor,
        inputs: PathInputs,
        grad_enabled: bool,
        skipped: SkippedLoss,
        is_native: bool,
    ) -> tuple[torch.Tensor, int]:
        """Compute the loss and, if it is needed, store the occupations, which are computed with it."""
        occupations: Optional[torch.Tensor] = None
        if grad_enabled and ctx.needs_input_grad[0]:
            occupations = torch.zeros_like(scores)
        sum_paths = native_sums.sum_paths if is_native else portable_sums.sum_paths
        losses = -sum_paths(scores.detach(), inputs.lengths, inputs.graph, occupations)
        check_sums(-losses)
        answered = replace_skipped(losses, skipped, _no_path)
        if occupations is not None:
            ctx.save_for_backward(occupations, torch.from_numpy(answered).to(scores.device))
        return torch.from_numpy(losses).to(scores.device, scores.dtype), int(answered.sum())

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor, _: Any) -> tuple[Optional[torch.Tensor], ...]:
        """Return minus the occupations, scaled by the gradient of each sequence's loss."""
        if torch.is_grad_enabled():  # autograd would treat the occupations as constants
            raise UsageError(
                "create_graph=True requests a second derivative, which the full-sum loss does not have; "
                "exclude this loss from that backward pass [second-derivative]"
            )
        occupations, answered = ctx.saved_tensors
        return occupations * gradient_factors(grad_loss, answered, -1), None, None, None, None


def _no_path(answered: Array) -> BatchError:
    indices = ", ".join(map(str, np.flatnonzero(~answered)))
    return BatchError(
        f"the sequences {indices} of the batch have no path, often for too few frames; leave them out, or "
        'pass skipped="zero" to train without them [no-path]'
    )


def _check_options(reduction: Any, skipped: Any, backend: Any) -> None:
    check_choice("reduction", reduction, Reduction)
    check_choice("skipped", skipped, SkippedLoss)
    check_choice("backend", backend, Backend)
