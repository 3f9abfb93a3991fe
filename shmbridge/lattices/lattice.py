"""A word lattice as plain arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UsageError

__all__ = ["FloatArray", "IntArray", "Lattice"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int32]]


@dataclasses.dataclass(frozen=True, eq=False)
class Lattice:
    """A word lattice: an acyclic graph whose nodes are points in time and whose arcs are words.

    It begins at node 0. The final nodes are those without outgoing arcs. Scores are natural logarithms of
    probabilities: higher is better. Immutable, and so thread-safe.

    Args:
        times: (node,) seconds from the beginning of the segment.
        sources, targets: (arc,) node at which the arc begins and ends.
        words: (arc,) orthographies of the lexicon; "" for an arc without a word.
        acoustic, language: (arc,) scores; None for zeros.
        lines: (arc,) lines of the file that it was read from, counted from 1; None if there is no file.

    Raises:
        UsageError: the arrays do not agree, a value is invalid, or there is a cycle.
    """

    times: FloatArray
    sources: IntArray
    targets: IntArray
    words: tuple[str, ...]
    acoustic: FloatArray
    language: FloatArray
    lines: Optional[IntArray] = None

    def __init__(
        self,
        times: ArrayLike,
        sources: ArrayLike,
        targets: ArrayLike,
        words: Sequence[str],
        acoustic: Optional[ArrayLike] = None,
        language: Optional[ArrayLike] = None,
        lines: Optional[ArrayLike] = None,
    ) -> None:
        num_arcs = len(words)
        zeros = np.zeros(num_arcs)
        fields: dict[str, Any] = {
            "times": _vector(times, np.float64, None, "times"),
            "sources": _vector(sources, np.int32, num_arcs, "sources"),
            "targets": _vector(targets, np.int32, num_arcs, "targets"),
            "words": tuple(words),
            "acoustic": _vector(zeros if acoustic is None else acoustic, np.float64, num_arcs, "acoustic"),
            "language": _vector(zeros if language is None else language, np.float64, num_arcs, "language"),
            "lines": None if lines is None else _vector(lines, np.int32, num_arcs, "lines"),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check()

    @property
    def num_nodes(self) -> int:
        """The number of nodes."""
        return len(self.times)

    @property
    def num_arcs(self) -> int:
        """The number of arcs."""
        return len(self.words)

    @property
    def is_final(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(node,) whether a path may end there: whether the node has no outgoing arcs."""
        final = np.ones(self.num_nodes, np.bool_)
        final[self.sources] = False
        return final

    def select(self, arcs: ArrayLike) -> Lattice:
        """Return the lattice of some arcs, by index or mask, without the nodes that it then does not need."""
        kept = np.arange(self.num_arcs)[arcs]  # type: ignore[index]
        used = np.zeros(self.num_nodes, np.bool_)
        used[:1] = used[self.sources[kept]] = used[self.targets[kept]] = True
        number = np.cumsum(used) - 1
        return Lattice(
            self.times[used],
            number[self.sources[kept]],
            number[self.targets[kept]],
            [self.words[arc] for arc in kept],
            self.acoustic[kept],
            self.language[kept],
            None if self.lines is None else self.lines[kept],
        )

    def arc_order(self) -> IntArray:
        """Return the arcs in topological order: each behind all arcs that end at its source."""
        return self._order

    @functools.cached_property
    def _order(self) -> IntArray:
        outgoing: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for arc, source in enumerate(self.sources.tolist()):
            outgoing[source].append(arc)
        missing = np.bincount(self.targets, minlength=self.num_nodes).tolist()
        targets = self.targets.tolist()
        order: list[int] = []
        ready = [node for node, count in enumerate(missing) if count == 0]
        while ready:
            for arc in outgoing[ready.pop()]:
                order.append(arc)
                missing[targets[arc]] -= 1
                if missing[targets[arc]] == 0:
                    ready.append(targets[arc])
        if len(order) < self.num_arcs:
            node = next(node for node, count in enumerate(missing) if count > 0)
            raise UsageError(f"node {node} lies on or behind a cycle; a lattice must be acyclic [lattice]")
        arcs: IntArray = _vector(order, np.int32, self.num_arcs, "order")
        return arcs

    def _check(self) -> None:
        if self.num_nodes == 0:
            raise UsageError("the lattice has no nodes; it must have at least one [lattice]")
        for name in ("times", "acoustic", "language"):
            values = getattr(self, name)
            if np.isnan(values).any():
                raise UsageError(f"{name}[{int(np.isnan(values).argmax())}] is NaN [lattice]")
        for name in ("sources", "targets"):
            values = getattr(self, name)
            invalid = (values < 0) | (values >= self.num_nodes)
            if invalid.any():
                arc = int(invalid.argmax())
                raise UsageError(
                    f"{name}[{arc}] is {values[arc]}; it must be a node from 0 to {self.num_nodes - 1}"
                    " [lattice]"
                )
        backwards = self.times[self.targets] < self.times[self.sources]
        if backwards.any():
            arc = int(backwards.argmax())
            begin, end = self.times[self.sources[arc]], self.times[self.targets[arc]]
            raise UsageError(
                f"arc {arc} lasts from {begin} to {end} s; it must not end before it begins [lattice]"
            )
        self._order  # noqa: B018 - raises if there is a cycle


def _vector(values: ArrayLike, dtype: Any, length: Optional[int], name: str) -> Any:
    array = np.asarray(values)
    if array.ndim != 1 or (length is not None and len(array) != length):
        shape = "(arc,), one for each word" if length is not None else "(node,)"
        raise UsageError(f"{name} has the shape {array.shape}; it must be {shape} [lattice]")
    if array.size and array.dtype.kind not in ("iu" if dtype is np.int32 else "iuf"):
        raise UsageError(f"{name} has the dtype {array.dtype}; it must be a number [lattice]")
    array = array.astype(dtype)
    array.flags.writeable = False
    return array
