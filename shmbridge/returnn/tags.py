"""Segment names as RETURNN hands them, and batches that have one more than once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import BatchError
from ..parent.arguments import decode_name
from ..ring import Array


def names_of(tags: Iterable[Any]) -> list[str]:
    """The segment names.

    Args:
        tags: str or bytes, also in an array; or an array (batch,length) of bytes: strings of
            a fixed length, filled with zeros, as RETURNN has them.

    Raises:
        BatchError: one is no name, or it is another array.
    """
    if isinstance(tags, np.ndarray) and tags.ndim != 1:
        if tags.ndim != 2 or tags.dtype.itemsize != 1:
            raise BatchError(
                f"tags is an array {tags.shape} of {tags.dtype}; it has to be (batch,) names, "
                "or (batch,length) bytes [segment-names]"
            )
        tags = [row.tobytes().rstrip(b"\0") for row in tags]
    return [decode_name(tag, index)[0] for index, tag in enumerate(tags)]


def rounds(names: Sequence[str]) -> list[list[int]]:
    """The indices of the batch, apart such that no name is twice in a round.

    RETURNN takes a segment that is more than once in a batch; our pool knows segments by their names.
    """
    found: list[list[int]] = []
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        before = seen.get(name, 0)
        seen[name] = before + 1
        if before == len(found):
            found.append([])
        found[before].append(index)
    return found


def repeat(
    edges: Array, weights: Array, start_end_states: Array, order: Sequence[int]
) -> tuple[Array, Array, Array]:
    """An automaton of the sequences order[0], order[1], … of this one."""
    num_states = start_end_states[1] - start_end_states[0] + np.uint32(1)
    ends = np.cumsum(num_states[list(order)], dtype=np.uint32)
    starts = ends - num_states[list(order)]
    parts, part_weights = [], []
    for index, (which, start) in enumerate(zip(order, starts)):
        of_sequence = edges[3] == which
        part = np.ascontiguousarray(edges[:, of_sequence])
        part[:2] = part[:2] - start_end_states[0, which] + start
        part[3] = index
        parts.append(part)
        part_weights.append(weights[of_sequence])
    return np.hstack(parts), np.hstack(part_weights), np.stack([starts, ends - np.uint32(1)])
