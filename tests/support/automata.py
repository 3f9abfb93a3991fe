"""Automata without a Sprint, and the sum over each single path: the oracle for the losses over automata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shmbridge import Automata
from shmbridge.refsprint.automaton import build_automaton
from shmbridge.refsprint.orthography import Edge, Lattice

Array = npt.NDArray[Any]


class Part(NamedTuple):
    """The automaton of one sequence. The first state is initial, the last final.

    Attributes:
        edges: (3,E) from, to, emission.
        weights: (E,).
    """

    num_states: int
    edges: Array
    weights: Array


class Enumerated(NamedTuple):
    """The paths of an automaton.

    Attributes:
        loss: -ln of the sum over all paths; infinite without a path.
        occupation: (time,label), the probability of each label given the automaton.
        best: the labels of the best path, empty without a path.
        best_score: -inf without a path.
    """

    loss: float
    occupation: Array
    best: tuple[int, ...]
    best_score: float


def combine(parts: Sequence[Part]) -> Automata:
    """Combine automata into one, as get_automata_for_batch does."""
    edges, ends, states = [np.empty((4, 0), np.uint32)], np.empty((2, len(parts)), np.uint32), 0
    for index, part in enumerate(parts):
        number = np.full(part.edges.shape[1], index)
        edges.append(np.vstack([part.edges[:2] + states, part.edges[2], number]).astype(np.uint32))
        ends[:, index] = states, states + part.num_states - 1
        states += part.num_states
    weights = np.concatenate([np.empty(0, np.float32), *(part.weights for part in parts)])
    return Automata(np.concatenate(edges, axis=1), weights.astype(np.float32), ends)


def ctc_automaton(labels: Sequence[int], blank: int) -> Part:
    """Return the CTC automaton of a sequence of labels, as refsprint exports it."""
    chain = tuple(Edge(i, i + 1, (label,), 0.0) for i, label in enumerate(labels))
    exported = build_automaton(Lattice(len(labels) + 1, chain, ()), blank).export()
    return Part(exported.num_states, exported.edges.reshape(3, -1), exported.weights)


def random_automaton(seed: int, num_labels: int, num_states: int = 4, num_edges: int = 12) -> Part:
    """Return a random automaton: loops, parallel edges, edges into the start and out of the end."""
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, num_states, (3, num_edges))
    edges[2] = rng.integers(0, num_labels, num_edges)
    weights = rng.exponential(size=num_edges)
    weights[rng.random(num_edges) < 0.1] = np.inf
    return Part(num_states, edges, weights.astype(np.float32))


def enumerate_paths(part: Part, scores: npt.ArrayLike, transition_scale: float = 1.0) -> Enumerated:
    """Sum over every single path, in float64.

    Args:
        part: the automaton.
        scores: (time,label) logarithms.
        transition_scale: factor for the weights.
    """
    scores = np.asarray(scores, np.float64)
    times = np.arange(len(scores))
    found = []
    for path in _paths(part, 0, len(scores)):
        labels = part.edges[2, list(path)]
        weight = part.weights[list(path)].astype(np.float64).sum()
        found.append((float(scores[times, labels].sum() - transition_scale * weight), tuple(labels.tolist())))
    found = [one for one in found if one[0] > -math.inf]
    occupation = np.zeros(scores.shape)
    if not found:
        return Enumerated(math.inf, occupation, (), -math.inf)
    total = float(np.logaddexp.reduce([score for score, _ in found]))
    for score, path_labels in found:
        occupation[times, list(path_labels)] += math.exp(score - total)
    best_score, best = max(found)
    return Enumerated(-total, occupation, best, best_score)


def _paths(part: Part, state: int, frames: int) -> Iterator[tuple[int, ...]]:
    """Return the edges of all paths of this length from the state to the last one."""
    if frames == 0:
        if state == part.num_states - 1:
            yield ()
        return
    for edge in np.flatnonzero((part.edges[0] == state) & np.isfinite(part.weights)):
        for path in _paths(part, int(part.edges[1, edge]), frames - 1):
            yield (int(edge), *path)
