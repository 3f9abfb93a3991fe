"""Viterbi alignments of pronunciations within the times of their arcs, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from .lattice_arcs import Graph

__all__ = ["Alignments", "align"]

_Ints = np.ndarray[Any, np.dtype[np.intp]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Alignments:
    """The best alignment of each item of a graph; all frames one after another.

    Attributes:
        scores: (item,) -ln of the product of the posteriors along the alignment.
        items: (n,) the item of each aligned frame.
        frames: (n,) the frame; ascending within an item.
        labels: (n,) its label.
    """

    scores: _Floats
    items: _Ints
    frames: _Ints
    labels: _Ints

    def rescored(self, log_posteriors: _Floats) -> Alignments:
        """Return the same alignments with the scores of other posteriors."""
        scores = np.zeros(len(self.scores))
        np.add.at(scores, self.items, -log_posteriors[self.frames, self.labels])
        return Alignments(scores, self.items, self.frames, self.labels)


def align(graph: Graph, log_posteriors: _Floats) -> Optional[Alignments]:
    """Align each item: each label of the pronunciation, in their order, has at least one frame.

    Args:
        graph: its items say labels, first frame and end frame.
        log_posteriors: (time,label).

    Returns:
        None if an item has fewer frames than labels, or no item reaches the last frame: RASR discards such a
        segment. Frames behind the last one are left out.
    """
    lengths = np.array([len(labels) for labels, _, _ in graph.items])
    starts = np.array([start for _, start, _ in graph.items])
    ends = np.array([end for _, _, end in graph.items])
    durations = np.minimum(ends, len(log_posteriors)) - starts
    if (durations < lengths).any() or ends.max() < len(log_posteriors):
        return None
    num_items, longest = len(lengths), int(lengths.max())
    labels = np.zeros((num_items, longest), np.intp)
    for item, (phonemes, _, _) in enumerate(graph.items):
        labels[item, : len(phonemes)] = phonemes
    all_items = np.arange(num_items)
    score = np.full((num_items, longest), -np.inf)
    advances = np.zeros((int(durations.max()), num_items, longest), np.bool_)
    score[:, 0] = log_posteriors[starts, labels[:, 0]]
    for step in range(1, len(advances)):
        active = all_items[durations > step]
        stay = score[active]
        advance = np.full_like(stay, -np.inf)
        advance[:, 1:] = stay[:, :-1]
        advances[step, active] = advance > stay
        emission = log_posteriors[starts[active, None] + step, labels[active]]
        score[active] = np.maximum(stay, advance) + emission
    # Back from the last label of each item.
    place = lengths - 1
    total = -score[all_items, place]
    found = np.zeros((len(advances), num_items), np.intp)
    for step in reversed(range(len(advances))):
        active = all_items[durations > step]
        found[step, active] = labels[active, place[active]]
        # An item without a finite score has no best path: keep enough frames for the labels before.
        forced = place[active] >= step
        place[active] -= (advances[step, active, place[active]] | forced) & (step > 0)
    aligned, steps = np.nonzero(durations[:, None] > np.arange(len(advances)))
    return Alignments(total, aligned, starts[aligned] + steps, found[steps, aligned])
