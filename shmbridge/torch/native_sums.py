"""The sums over all paths of automata in C, on the CPU."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import torch

from .._native import ffi, lib
from ..errors import ResourceError
from ..ring import Array
from .path_graph import Arcs, Floats, Ints, PathGraph


def sum_paths(
    scores: torch.Tensor, lengths: Ints, graph: PathGraph, occupations: Optional[torch.Tensor]
) -> Floats:
    """Sum over the paths of each sequence.

    Args:
        scores: (time,batch,label) natural logarithms, float32 or float64, on the CPU; any strides.
        lengths: (batch,) frames of each sequence.
        graph: the automata.
        occupations: zeros of the dtype and shape of the scores, to write to: the probability, given the
            automaton, that a path emits the label in the frame. Its memory must not overlap.

    Returns:
        (batch,) ln of the sums: -inf for a sequence without a path; NaN if a score that it uses is NaN or
        plus infinity.

    Raises:
        ResourceError: memory is short.
    """
    arrays: list[Any] = []  # cffi keeps no references

    def pointer(array: Array, ctype: str) -> Any:
        contiguous = np.ascontiguousarray(array)
        arrays.append(contiguous)
        return ffi.cast(ctype, contiguous.ctypes.data)

    def arcs(side: Arcs) -> tuple[Any, Any, Any]:
        return (
            pointer(side.begin, "int64_t *"),
            pointer(side.nodes, "int64_t *"),
            pointer(side.weights, "double *"),
        )

    scores = scores.resolve_neg()
    if occupations is not None and occupations.stride() != scores.stride():  # C has one set of strides
        scores = torch.empty_like(occupations).copy_(scores)
    num_labels = scores.shape[2]
    used, slots = np.unique(graph.sequences() * num_labels + graph.labels, return_inverse=True)
    label_begin = np.searchsorted(used, np.arange(len(graph.node_begin)) * num_labels)
    native_graph = ffi.new(
        "shmb_path_graph *",
        (
            pointer(graph.node_begin, "int64_t *"),
            pointer(graph.initial, "double *"),
            pointer(graph.final, "double *"),
            *arcs(graph.incoming),
            *arcs(graph.outgoing),
            pointer(label_begin, "int64_t *"),
            pointer(used % num_labels, "int64_t *"),
            pointer(slots - label_begin[graph.sequences()], "int64_t *"),
        ),
    )
    native_scores = ffi.new(
        "shmb_path_scores *",
        (
            ffi.cast("void *", scores.data_ptr()),
            scores.dtype == torch.float64,
            *scores.stride(),
            scores.shape[1],
            pointer(lengths, "int64_t *"),
        ),
    )
    sums = np.empty(scores.shape[1])
    result = lib.shmb_sum_paths(
        native_graph,
        native_scores,
        ffi.cast("double *", sums.ctypes.data),
        ffi.NULL if occupations is None else ffi.cast("void *", occupations.data_ptr()),
        torch.get_num_threads(),
    )
    if result != lib.SHMB_OK:
        raise ResourceError(
            "malloc failed: a sum over all paths needs 16 bytes for each frame and state of a sequence, and "
            "for each thread; shorten the longest segments [out-of-memory]"
        )
    return sums
