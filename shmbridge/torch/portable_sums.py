"""The sums over all paths of automata in torch operations, on any device.

The values are logarithms in float64: float32 would lose the occupations of long segments. Each step computes
a frame of all sequences. A sequence that is over goes on without an effect.
"""

from __future__ import annotations

import functools
from typing import Callable, Optional

import numpy as np
import torch

from .path_graph import Arcs, Floats, Ints, PathGraph

Reduce = Callable[[torch.Tensor], torch.Tensor]

_CHUNK_ELEMENTS = 1 << 22  # frames x nodes whose scores are gathered at once
_PAIRWISE_UP_TO = 4  # terms: torch.logsumexp is slower for so few
_CLASS_FACTOR = 4  # a node has memory for at most as many times its arcs


def log_sum(values: torch.Tensor) -> torch.Tensor:
    """Return ln of the sum of exponentials over the first axis."""
    if len(values) > _PAIRWISE_UP_TO:
        return torch.logsumexp(values, 0)
    return functools.reduce(torch.logaddexp, values.unbind())


def best(values: torch.Tensor) -> torch.Tensor:
    """Return the maximum over the first axis."""
    return values.amax(0)


class ArcReduction:
    """Reduces the values at the other ends of each node's arcs, plus the weights of the arcs, to one value.

    Nodes with similar numbers of arcs are computed together, in a matrix with one row for each arc of a node.

    Args:
        arcs: the arcs of each node.
        reduce: over the first axis.
        device: where it computes.
    """

    def __init__(self, arcs: Arcs, reduce: Reduce, device: torch.device) -> None:
        self._reduce = reduce
        degrees = np.diff(arcs.begin)
        num_nodes = len(degrees)
        self._parts = []
        order = []
        lowest, limit = 0, _CLASS_FACTOR
        while lowest <= degrees.max(initial=0):
            nodes = np.flatnonzero((degrees >= lowest) & (degrees < limit))
            if nodes.size:
                rows = np.arange(max(1, degrees[nodes].max()))[:, None]
                valid = rows < degrees[nodes]
                places = np.where(valid, arcs.begin[nodes] + rows, 0)
                others = np.full(places.shape, num_nodes)  # a place whose value is -inf
                others[valid] = arcs.nodes[places[valid]]
                weights = np.zeros(places.shape)
                weights[valid] = arcs.weights[places[valid]]
                moved = torch.from_numpy(weights).to(device) if weights.any() else None
                self._parts.append((torch.from_numpy(others).to(device), moved))
                order.append(nodes)
            lowest, limit = limit, limit * _CLASS_FACTOR
        self._order = (
            torch.from_numpy(np.argsort(np.concatenate(order))).to(device) if len(order) > 1 else None
        )

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return (node,) for values (node + 1,), of which the last is -inf."""
        parts = []
        for others, weights in self._parts:
            gathered = values.index_select(0, others.view(-1)).view(others.shape)
            if weights is not None:
                gathered += weights
            parts.append(gathered[0] if len(gathered) == 1 else self._reduce(gathered))
        if self._order is None:
            return parts[0] if parts else values[:-1]
        return torch.cat(parts).index_select(0, self._order)


class NodeScores:
    """The scores of the nodes, gathered for some frames at once.

    Args:
        scores: (time,batch,label), any float dtype.
        lengths: (batch,) frames of each sequence.
        graph: the automata.

    Attributes:
        columns: (node,) the place of each node's label in a frame.
        lengths: (node,) frames of each node's sequence.
    """

    def __init__(self, scores: torch.Tensor, lengths: Ints, graph: PathGraph) -> None:
        sequences = graph.sequences()
        device = scores.device
        self._scores = scores.flatten(1)
        self.columns = torch.from_numpy(sequences * scores.shape[2] + graph.labels).to(device)
        self.lengths = torch.from_numpy(lengths[sequences]).to(device)
        self._chunk = max(1, _CHUNK_ELEMENTS // max(1, len(graph.labels)))

    def chunks(self) -> list[range]:
        """Return the frames, in chunks."""
        frames = range(self._scores.shape[0])
        return [frames[start : start + self._chunk] for start in frames[:: self._chunk]]

    def of(self, frames: range) -> torch.Tensor:
        """Return (time,node) float64 for these frames; 0 after the end of a sequence."""
        part = self._scores[frames.start : frames.stop].index_select(1, self.columns).double()
        times = torch.arange(frames.start, frames.stop, device=part.device)[:, None]
        return part.masked_fill_(times >= self.lengths, 0.0)


def forward_values(scores: NodeScores, graph: PathGraph, frames: int, reduce: Reduce) -> torch.Tensor:
    """Return the reduced scores of all paths up to each node and frame.

    Returns:
        (time,node + 1), with -inf in the last place.
    """
    device = scores.columns.device
    values = torch.full((frames, len(graph.labels) + 1), -torch.inf, dtype=torch.float64, device=device)
    step = ArcReduction(graph.incoming, reduce, device)
    for chunk in scores.chunks():
        part = scores.of(chunk)
        for frame in chunk:
            sums = torch.from_numpy(graph.initial).to(device) if frame == 0 else step(values[frame - 1])
            torch.add(sums, part[frame - chunk.start], out=values[frame, :-1])
    return values


def final_values(
    values: torch.Tensor, scores: NodeScores, graph: PathGraph
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of the paths that end at a node, (node of sequence, batch), and these nodes.

    Where a sequence has fewer nodes than others, the score is -inf and the node is one past the last.
    """
    device = values.device
    num_nodes = len(graph.labels)
    last = values.gather(0, (scores.lengths - 1)[None])[0] + torch.from_numpy(graph.final).to(device)
    counts = np.diff(graph.node_begin)
    rows = np.arange(counts.max(initial=1))[:, None]
    nodes = torch.from_numpy(np.where(rows < counts, graph.node_begin[:-1] + rows, num_nodes)).to(device)
    last = torch.cat([last, last.new_full((1,), -torch.inf)])
    return last[nodes], nodes


def sum_paths(
    scores: torch.Tensor, lengths: Ints, graph: PathGraph, occupations: Optional[torch.Tensor]
) -> Floats:
    """Sum over the paths of each sequence: arguments and result of `native_sums.sum_paths`, on any device."""
    device = scores.device
    node_scores = NodeScores(scores, lengths, graph)
    values = forward_values(node_scores, graph, len(scores), log_sum)
    sums = log_sum(final_values(values, node_scores, graph)[0])
    if occupations is not None:
        total = torch.where(sums == -torch.inf, 0.0, sums)[torch.from_numpy(graph.sequences()).to(device)]
        _add_occupations(values, total, node_scores, lengths, graph, occupations)
    return np.asarray(sums.cpu().numpy())


def _add_occupations(
    values: torch.Tensor,
    total: torch.Tensor,
    scores: NodeScores,
    lengths: Ints,
    graph: PathGraph,
    occupations: torch.Tensor,
) -> None:
    """Add the occupations; `values` are the forward values, and are overwritten."""
    device = values.device
    step = ArcReduction(graph.outgoing, log_sum, device)
    final = torch.from_numpy(graph.final).to(device)
    ends = set((lengths - 1).tolist())
    backward = torch.full_like(final, -torch.inf)  # of the frame, without its score
    emitted = final.new_full((len(final) + 1,), -torch.inf)  # with its score
    for chunk in reversed(scores.chunks()):
        part = scores.of(chunk)
        for frame in reversed(chunk):
            if frame in ends:
                backward = torch.where(scores.lengths == frame + 1, final, backward)
            values[frame, :-1] += backward - total
            torch.add(backward, part[frame - chunk.start], out=emitted[:-1])
            backward = step(emitted)
        occupied = values[chunk.start : chunk.stop, :-1].exp().to(occupations.dtype)
        rows = occupations[chunk.start : chunk.stop]
        flat = torch.zeros(len(chunk), rows[0].numel(), dtype=occupations.dtype, device=device)
        flat.index_add_(1, scores.columns, occupied)
        rows += flat.view(rows.shape)
