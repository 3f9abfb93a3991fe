"""Segment names as RETURNN passes them, and batches that contain a segment more than once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import BatchError
from ..parent.arguments import decode_name
from ..ring import Array


def decode_tags(tags: Iterable[Any]) -> list[str]:
    """Return the segment names.

    Args:
        tags: str or bytes, as a list or an array; or RETURNN's array (batch,length) of bytes, whose rows are
            padded with zeros.

    Raises:
        BatchError: an element is not a segment name, or the array has another shape or dtype.
    """
    if isinstance(tags, np.ndarray) and tags.ndim != 1:
        if tags.ndim != 2 or tags.dtype.itemsize != 1:
            raise BatchError(
                f"tags is an array {tags.shape} of {tags.dtype}; it must be (batch,) names, "
                "or (batch,length) bytes [segment-names]"
            )
        tags = [row.tobytes().rstrip(b"\0") for row in tags]
    return [decode_name(tag, index)[0] for index, tag in enumerate(tags)]


def split_duplicates(names: Sequence[str]) -> list[list[int]]:
    """Split a batch into parts without duplicates, and return the indices of each part in order.

    RETURNN accepts duplicates in a batch; shmbridge's pool identifies segments by their names.
    """
    parts: list[list[int]] = []
    counts: dict[str, int] = {}
    for index, name in enumerate(names):
        earlier = counts.get(name, 0)
        counts[name] = earlier + 1
        if earlier == len(parts):
            parts.append([])
        parts[earlier].append(index)
    return parts


def gather(
    edges: Array, weights: Array, start_end_states: Array, order: Sequence[int]
) -> tuple[Array, Array, Array]:
    """Return the combined automaton of the sequences order[0], order[1], … of a combined automaton."""
    columns = [np.flatnonzero(edges[3] == sequence) for sequence in order]
    gathered = edges.take(np.concatenate(columns), axis=1)
    gathered[3] = np.repeat(np.arange(len(order)), [len(part) for part in columns])
    first, last = start_end_states[:, list(order)]
    ends = np.cumsum(last - first + np.uint32(1), dtype=np.uint32)
    starts = ends - (last - first + np.uint32(1))
    gathered[:2] += (starts - first)[gathered[3]]  # modulo 2**32, as `first` may be larger
    return gathered, weights[np.concatenate(columns)], np.stack([starts, ends - np.uint32(1)])
