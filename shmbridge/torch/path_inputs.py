"""The arguments of the sums over the paths of automata: checked, and combined to scores and a graph."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import numpy as np
import torch

from ..errors import BatchError
from ..parent.automata import Automata
from ..ring import Array
from .arguments import Lengths, check_scale, check_tensor, to_array
from .path_graph import Ints, PathGraph, build_graph

AutomataLike = Union[Automata, tuple[Any, Any, Any]]
LogPrior = Union[torch.Tensor, Array, None]


class Scales(NamedTuple):
    """How the scores of paths are composed.

    Attributes:
        log_prior: (label,) to subtract, or None.
        acoustic: factor for the log-probs.
        prior: factor for the prior.
        transition: factor for the weights of the automata.
    """

    log_prior: LogPrior
    acoustic: float
    prior: float
    transition: float

    def check(self) -> None:
        """Raise OptionError if a scale is invalid."""
        check_scale("acoustic_scale", self.acoustic)
        check_scale("prior_scale", self.prior, allow_zero=True)
        check_scale("transition_scale", self.transition, allow_zero=True)


class PathInputs(NamedTuple):
    """What a sum over paths takes.

    Attributes:
        scores: (time,batch,label) float32 or float64; part of the graph of autograd.
        lengths: (batch,) frames of each sequence.
        graph: the automata.
    """

    scores: torch.Tensor
    lengths: Ints
    graph: PathGraph


def prepare(
    log_probs: torch.Tensor,
    seq_lengths: Lengths,
    automata: AutomataLike,
    batch_first: bool,
    scales: Scales,
    merge: np.ufunc = np.logaddexp,
) -> PathInputs:
    """Check the arguments, and combine them; `merge` as in build_graph.

    Raises:
        OptionError: a scale is invalid.
        BatchError: the arguments do not fit together.
    """
    scales.check()
    check_tensor(log_probs, batch_first)
    if type(torch.from_numpy(np.empty(0))) is not torch.Tensor:
        raise BatchError("an active torch mode has no values; call the loss outside of that mode [no-values]")
    by_time = log_probs.transpose(0, 1) if batch_first else log_probs
    lengths = _check_lengths(seq_lengths, by_time.shape[0], by_time.shape[1])
    graph = build_graph(automata, by_time.shape[1], by_time.shape[2], scales.transition, merge)
    return PathInputs(_combine(by_time, scales), lengths, graph)


def check_sums(sums: Array) -> None:
    """Raise BatchError if a sum is the result of invalid scores."""
    bad = np.flatnonzero(np.isnan(sums) | (sums == np.inf))
    if bad.size:
        raise BatchError(
            f"the scores of sequence {bad[0]} are NaN or +inf for a label of its automaton; they must be "
            "finite or -inf [nan]"
        )


def _combine(log_probs: torch.Tensor, scales: Scales) -> torch.Tensor:
    scores = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    if scales.acoustic != 1:
        scores = scales.acoustic * scores
    if scales.log_prior is None:
        return scores
    prior = (
        scales.log_prior if isinstance(scales.log_prior, torch.Tensor) else torch.as_tensor(scales.log_prior)
    )
    if prior.shape != scores.shape[2:] or not prior.is_floating_point():
        raise BatchError(
            f"log_prior is {prior.dtype} {tuple(prior.shape)}; it must be of float dtype and shape "
            f"{tuple(scores.shape[2:])} [loss-input]"
        )
    return scores - scales.prior * prior.to(scores.device, scores.dtype)


def _check_lengths(seq_lengths: Any, num_frames: int, batch: int) -> Ints:
    lengths = to_array(seq_lengths)
    if lengths.dtype.kind not in "iu" and lengths.size:  # an empty list becomes float64
        raise BatchError(f"seq_lengths has the dtype {lengths.dtype}; it must be an integer [dtype]")
    if lengths.shape != (batch,):
        raise BatchError(
            f"seq_lengths has the shape {lengths.shape}; it must be ({batch},), as log_probs has a batch of "
            f"{batch} [batch-shapes]"
        )
    bad = np.flatnonzero((lengths < 1) | (lengths > num_frames))
    if bad.size:
        raise BatchError(
            f"seq_lengths[{bad[0]}] is {lengths[bad[0]]}; it must be from 1 to {num_frames}, the frames of "
            "log_probs [batch-shapes]"
        )
    return lengths.astype(np.int64)
