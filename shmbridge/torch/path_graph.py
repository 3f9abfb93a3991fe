"""Automata of a batch as a graph of nodes: a path visits one node for each frame.

A node is a state together with the label of the edges that enter it (or leave it, if that needs fewer nodes).
Most automata have one label for each state, and so about as many nodes as states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import BatchError
from .arguments import to_array

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Arcs(NamedTuple):
    """Arcs, sorted by the node at one of their ends.

    Attributes:
        begin: (node + 1,) the first arc of each node.
        nodes: (arc,) the node at the other end.
        weights: (arc,) natural logarithms of probabilities.
    """

    begin: Ints
    nodes: Ints
    weights: Floats


class PathGraph(NamedTuple):
    """The graph of a batch. Nodes are sorted by sequence; weights are natural logarithms of probabilities.

    Attributes:
        node_begin: (batch + 1,) the first node of each sequence.
        labels: (node,) the label that a path emits at a node.
        initial: (node,) the weight of a path that begins there; -inf forbids.
        final: (node,) the weight of a path that ends there; -inf forbids.
        incoming: the arcs into each node.
        outgoing: the same arcs, out of each node.
    """

    node_begin: Ints
    labels: Ints
    initial: Floats
    final: Floats
    incoming: Arcs
    outgoing: Arcs

    def sequences(self) -> Ints:
        """Return the sequence of each node, (node,)."""
        return np.repeat(np.arange(len(self.node_begin) - 1), np.diff(self.node_begin))


def build_graph(
    automata: Any, batch: int, num_labels: int, transition_scale: float, merge: np.ufunc = np.logaddexp
) -> PathGraph:
    """Check the automata of a batch, and build the graph of their paths.

    Args:
        automata: edges (4,E), weights (E,), start_end_states (2,batch), as `get_automata_for_batch` returns
            them; arrays or tensors.
        batch: the number of sequences.
        num_labels: the number of labels of the scores.
        transition_scale: factor for the weights.
        merge: combines the weights of parallel edges at the start or the end: numpy.logaddexp for a sum over
            paths, numpy.maximum for the best path.

    Raises:
        BatchError: the automata are invalid, or do not fit to the scores.
    """
    edges, costs, ends = _check(automata, batch, num_labels)
    allowed = costs < np.inf
    if not allowed.all():
        edges, costs = edges[:, allowed], costs[allowed]
    (sources, targets, labels, _), weights = edges, -transition_scale * costs
    entered, entered_by = np.unique(targets * num_labels + labels, return_inverse=True)
    left, left_by = np.unique(sources * num_labels + labels, return_inverse=True)
    if len(entered) <= len(left):
        return _by_target(sources, targets, weights, ends, entered, entered_by, num_labels, merge)
    graph = _by_target(targets, sources, weights, ends[::-1], left, left_by, num_labels, merge)
    return graph._replace(
        initial=graph.final, final=graph.initial, incoming=graph.outgoing, outgoing=graph.incoming
    )


def _by_target(
    sources: Ints,
    targets: Ints,
    weights: Floats,
    ends: Ints,
    keys: Ints,
    node_of_edge: Ints,
    num_labels: int,
    merge: np.ufunc,
) -> PathGraph:
    """Build the graph whose nodes are the pairs of target and label; `keys` are these pairs, sorted."""
    num_nodes, num_states = len(keys), int(ends.max(initial=-1)) + 1
    states = keys // num_labels
    of_state = np.searchsorted(states, np.arange(num_states + 1))  # the nodes of a state are contiguous
    counts = np.diff(of_state)[sources]
    # Each edge continues the paths of all nodes of its source.
    after = np.repeat(node_of_edge, counts)
    first = np.cumsum(counts) - counts
    before = np.arange(len(after)) - np.repeat(first - of_state[sources], counts)
    arc_weights = np.repeat(weights, counts)

    initial = np.full(num_nodes, -np.inf)
    starting = np.flatnonzero(np.isin(sources, ends[0]))
    merge.at(initial, node_of_edge[starting], weights[starting])
    final = np.where(np.isin(states, ends[1]), 0.0, -np.inf)
    lowest = np.minimum(ends[0], ends[1])
    node_begin = np.append(np.searchsorted(states, lowest), num_nodes)
    into = _sorted_arcs(after, before, arc_weights, num_nodes)
    out_of = _sorted_arcs(before, after, arc_weights, num_nodes)
    labels = keys % num_labels
    return PathGraph(node_begin, labels, initial, final, into, out_of)


def _sorted_arcs(ends: Ints, others: Ints, weights: Floats, num_nodes: int) -> Arcs:
    order = np.argsort(ends, kind="stable")
    begin = np.zeros(num_nodes + 1, np.int64)
    np.cumsum(np.bincount(ends, minlength=num_nodes), out=begin[1:])
    return Arcs(begin, others[order], weights[order])


def _check(automata: Any, batch: int, num_labels: int) -> tuple[Ints, Floats, Ints]:
    """Return edges and states as int64, and costs as float64."""
    try:
        edges, costs, ends = map(to_array, automata)
    except (TypeError, ValueError):
        raise BatchError(
            f"automata is of type {type(automata).__name__}; it must be edges (4,E), weights (E,) and "
            "start_end_states (2,batch) [automata]"
        ) from None
    for name, array, shape, kinds in (
        ("edges", edges, (4, costs.size), "iu"),
        ("weights", costs, (costs.size,), "f"),
        ("start_end_states", ends, (2, batch), "iu"),
    ):
        if array.shape != shape or array.dtype.kind not in kinds:
            kind = "float" if kinds == "f" else "integer"
            raise BatchError(
                f"automata.{name} is {array.dtype} {array.shape}; it must be of {kind} dtype and shape "
                f"{shape} [automata]"
            )
    edges, ends, costs = edges.astype(np.int64), ends.astype(np.int64), costs.astype(np.float64)
    bad = np.flatnonzero(np.isnan(costs) | (costs == -np.inf))
    if bad.size:
        raise BatchError(
            f"automata.weights has {costs[bad[0]]} at edge {bad[0]}; it must have negative logarithms of "
            "probabilities [automata]"
        )
    if (ends[0] < 0).any() or (ends[0] > ends[1]).any() or (ends[0, 1:] <= ends[1, :-1]).any():
        raise BatchError(
            "automata.start_end_states has overlapping automata; the states of each sequence must lie "
            "between its start and its end, and follow those of the sequence before [automata]"
        )
    _check_edges(edges, ends, num_labels)
    return edges, costs, ends


def _check_edges(edges: Ints, ends: Ints, num_labels: int) -> None:
    """Raise BatchError if an edge has a state, label or sequence that does not exist."""
    bad = np.flatnonzero((edges[3] < 0) | (edges[3] >= ends.shape[1]))
    if bad.size:
        raise BatchError(
            f"automata.edges has sequence {edges[3, bad[0]]} at edge {bad[0]}; the batch has {ends.shape[1]} "
            "sequences [automata]"
        )
    starts, stops = ends[:, edges[3]]
    for row, side in enumerate(("from", "to")):
        bad = np.flatnonzero((edges[row] < starts) | (edges[row] > stops))
        if bad.size:
            raise BatchError(
                f"automata.edges leads {side} state {edges[row, bad[0]]} at edge {bad[0]}; the states of "
                f"sequence {edges[3, bad[0]]} are {starts[bad[0]]} to {stops[bad[0]]} [automata]"
            )
    bad = np.flatnonzero((edges[2] < 0) | (edges[2] >= num_labels))
    if bad.size:
        raise BatchError(
            f"automata.edges has label {edges[2, bad[0]]} at edge {bad[0]}; the scores have {num_labels} "
            "labels, and epsilon edges are not supported [automata]"
        )
