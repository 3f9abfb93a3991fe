"""Forward-backward pruning."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from .lattice import FloatArray, Lattice

__all__ = ["prune"]


def prune(
    lattice: Lattice, beam: float, *, acoustic_scale: float = 1.0, language_scale: float = 1.0
) -> Lattice:
    """Return the arcs whose best path scores at most `beam` below the best path of all.

    Args:
        lattice: the lattice.
        beam: a difference of natural logarithms, at least 0. 0 keeps the best path, and those that equal it.
        acoustic_scale, language_scale: factors of the scores.

    Raises:
        UsageError: `beam` is negative or NaN, or the score of each path is infinite.
    """
    if not beam >= 0:
        raise UsageError(f"beam is {beam}; it must be at least 0 [lattice]")
    score = acoustic_scale * lattice.acoustic + language_scale * lattice.language
    order = lattice.arc_order().tolist()
    sources, targets = lattice.sources.tolist(), lattice.targets.tolist()
    forward: FloatArray = np.full(lattice.num_nodes, -np.inf)
    forward[0] = 0.0
    for arc in order:
        forward[targets[arc]] = max(forward[targets[arc]], forward[sources[arc]] + score[arc])
    backward: FloatArray = np.where(lattice.is_final, 0.0, -np.inf)
    for arc in reversed(order):
        backward[sources[arc]] = max(backward[sources[arc]], score[arc] + backward[targets[arc]])
    best = backward[0]
    if not np.isfinite(best):
        raise UsageError("the lattice has no path with a finite score [lattice]")
    through = forward[lattice.sources] + score + backward[lattice.targets]
    rounding = 1e-9 * max(1.0, abs(best))  # the sums of one path differ in their order
    return lattice.select(through >= best - beam - rounding)
