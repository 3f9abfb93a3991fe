"""The best path of each automaton: an alignment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .arguments import Lengths, outside_the_graph
from .path_graph import Ints, PathGraph
from .path_inputs import AutomataLike, LogPrior, Scales, check_sums, prepare
from .portable_sums import NodeScores, best, final_values, forward_values

NO_LABEL = -1


class Alignment(NamedTuple):
    """The best paths of a batch.

    Attributes:
        labels: (time,batch) int64, or (batch,time) as the log-probs: the label of each frame; -1 beyond a
            sequence's length, and for a sequence without a path.
        scores: (batch,) logarithms; -inf for a sequence without a path.
    """

    labels: torch.Tensor
    scores: torch.Tensor


@outside_the_graph("shmbridge.torch.viterbi: the automata differ in each batch")
@torch.no_grad()
def viterbi(
    log_probs: torch.Tensor,
    seq_lengths: Lengths,
    automata: AutomataLike,
    *,
    batch_first: bool = False,
    log_prior: LogPrior = None,
    acoustic_scale: float = 1.0,
    prior_scale: float = 1.0,
    transition_scale: float = 1.0,
) -> Alignment:
    """Return the path with the highest score of each sequence's automaton.

    The arguments and the score of a path are those of `full_sum_loss`. The scores have no gradient. Among
    equal paths, the choice is not specified.

    Thread-safety: may be called from several threads.

    Returns:
        The labels and scores, on the device of log_probs; the scores are float64 if log_probs is float64,
        else float32.

    Raises:
        OptionError: a scale is invalid.
        BatchError: the arguments do not fit together, the automata are invalid, or a score that they use is
            NaN or plus infinity.
    """
    scales = Scales(log_prior, acoustic_scale, prior_scale, transition_scale)
    scores, lengths, graph = prepare(log_probs, seq_lengths, automata, batch_first, scales, np.maximum)
    if not lengths.size or not graph.labels.size:
        labels = torch.full(scores.shape[:2], NO_LABEL, device=scores.device)
        path_scores = torch.full(scores.shape[1:2], -torch.inf, device=scores.device, dtype=scores.dtype)
    else:
        node_scores = NodeScores(scores, lengths, graph)
        values = forward_values(node_scores, graph, len(scores), best)
        ends, nodes = final_values(values, node_scores, graph)
        path_scores, rows = ends.max(0)
        check_sums(path_scores.cpu().numpy())
        labels = _trace_back(values, nodes.gather(0, rows[None])[0], lengths, graph)
        labels.masked_fill_(path_scores == -torch.inf, NO_LABEL)
    return Alignment(labels.transpose(0, 1) if batch_first else labels, path_scores.to(scores.dtype))


def _trace_back(values: torch.Tensor, last: torch.Tensor, lengths: Ints, graph: PathGraph) -> torch.Tensor:
    """Return the labels (time,batch) of the best paths, which end at the nodes `last` (batch,)."""
    device = values.device
    frames = len(values)
    arcs = graph.incoming
    begin, nodes = torch.from_numpy(arcs.begin).to(device), torch.from_numpy(arcs.nodes).to(device)
    weights = torch.from_numpy(arcs.weights).to(device)
    steps = torch.arange(int(np.diff(arcs.begin).max(initial=1)), device=device)[:, None]
    node_labels = torch.from_numpy(graph.labels).to(device)
    ends = torch.from_numpy(lengths).to(device) - 1
    labels = torch.full((frames, len(lengths)), NO_LABEL, device=device)
    node = last.clamp(max=len(graph.labels) - 1)  # without a path, there may be no node
    for frame in range(frames - 1, -1, -1):
        labels[frame] = torch.where(frame <= ends, node_labels[node], NO_LABEL)
        if frame == 0 or not len(nodes):
            continue
        places = begin[node] + steps
        valid = places < begin[node + 1]
        places = places.clamp(max=len(nodes) - 1)
        scores = torch.where(valid, values[frame - 1][nodes[places]] + weights[places], -torch.inf)
        before = nodes[places.gather(0, scores.argmax(0)[None])[0]]
        node = torch.where(frame <= ends, before, node)
    return labels
