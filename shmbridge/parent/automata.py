"""Requests for allophone state automata, combined into one automaton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np
from numpy.typing import DTypeLike

from .._native import lib
from ..errors import BatchError, ProtocolError
from ..ring import Array, Claim, FloatArray, Record
from .batch import Batch, BatchRequest

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

UintArray = np.ndarray[Any, np.dtype[np.uint32]]
IntArray = Union[UintArray, np.ndarray[Any, np.dtype[np.int32]]]


_DTYPES: list[np.dtype[Any]] = [np.dtype(np.uint32), np.dtype(np.int32)]


class Automata(NamedTuple):
    """The automata of several sequences as one: the states of each follow those of the one before.

    Attributes:
        edges: (4,E) uint32 or int32: from, to, emission, sequence.
        weights: (E,) float32.
        start_end_states: (2,batch) uint32 or int32: the initial and final state of each sequence.
    """

    edges: IntArray
    weights: FloatArray
    start_end_states: IntArray

    def as_int32(self) -> Automata:
        """Return the same memory as int32.

        Raises:
            ProtocolError: a number is too large.
        """
        largest = max(int(array.max(initial=0)) for array in (self.edges, self.start_end_states))
        if largest >= 1 << 31:
            raise ProtocolError(
                f"the automata have a state or label {largest}, which int32 cannot hold; request uint32"
                " [bad-answer]"
            )
        return Automata(self.edges.view(np.int32), self.weights, self.start_end_states.view(np.int32))


class AutomatonRequest(BatchRequest[Batch]):
    """A request for one segment's automaton.

    Attributes:
        num_states: the number of states; the first is initial, the last final.
        edges: (3,E) uint32: from, to, emission.
        weights: (E,) float32.
    """

    kind = lib.SHMB_AUTOMATON_REQUEST
    answer_kind = lib.SHMB_AUTOMATON

    def __init__(self, batch: Batch, name: str) -> None:
        super().__init__(batch, name)
        self.num_states = 0
        self.edges: UintArray = np.empty((3, 0), np.uint32)
        self.weights: FloatArray = np.empty(0, np.float32)

    def fill(self, claim: Claim) -> None:
        """Do nothing: the segment name is all that Sprint needs."""

    def _take_matrix(self, record: Record) -> None:
        matrix = np.array(record.matrix)  # one copy, then the checks: Sprint may still write into the ring
        problem = _problem(matrix, record.states)
        if problem is not None:
            self._batch.errors[self.name] = ProtocolError(
                f"the automaton of {self.name!r} is invalid: {problem} [bad-answer]"
            )
            return
        self.num_states = record.states
        self.edges = matrix[:3]
        self.weights = matrix[3].view(np.float32)
        self._batch.statistics.automata += 1


def _problem(matrix: Array, num_states: int) -> Optional[str]:
    if matrix.dtype != np.uint32 or matrix.ndim != 2 or matrix.shape[0] != 4:
        return f"it is {matrix.shape} of {matrix.dtype}; it must be four rows of uint32"
    if not 0 < num_states < 1 << 32 or (matrix[:2].size and int(matrix[:2].max()) >= num_states):
        return f"an edge leads to a state that is not one of its {num_states}"
    return None


def request_automata(pool: Lifecycle, names: Sequence[str], dtype: DTypeLike) -> Automata:
    """Return the automata of these segments, combined into one. The caller holds the lock.

    Raises:
        ShmbridgeError: as SprintInstancePool.get_automata_for_batch.
    """
    try:
        is_signed = _DTYPES.index(np.dtype(dtype)) == 1
    except (TypeError, ValueError):
        raise BatchError(f"dtype is {dtype!r}; it must be numpy.uint32 or numpy.int32 [dtype]") from None
    scheduler = pool.scheduler
    scheduler.restart_dead_children()
    batch = Batch(pool.statistics, scheduler.children)
    requests = [AutomatonRequest(batch, name) for name in names]
    scheduler.run(batch)
    batch.raise_errors()
    automata = _combine(requests)
    return automata.as_int32() if is_signed else automata


def _combine(requests: Sequence[AutomatonRequest]) -> Automata:
    """Combine the automata of several sequences into one.

    Raises:
        ProtocolError: there are more states than uint32 can number.
    """
    total = sum(request.num_states for request in requests)
    if total >= 1 << 32:
        raise ProtocolError(f"the automata have {total} states; uint32 can number 2**32 - 1 [bad-answer]")
    ends = np.cumsum([request.num_states for request in requests], dtype=np.uint32)
    starts = ends - np.array([request.num_states for request in requests], np.uint32)
    parts = []
    for index, (request, start) in enumerate(zip(requests, starts)):
        part = np.empty((4, request.edges.shape[1]), np.uint32)
        part[:2] = request.edges[:2] + start
        part[2] = request.edges[2]
        part[3] = index
        parts.append(part)
    edges = np.concatenate([np.empty((4, 0), np.uint32), *parts], axis=1)
    weights = np.concatenate([np.empty(0, np.float32), *(request.weights for request in requests)])
    return Automata(edges, weights, np.stack([starts, ends - np.uint32(1)]).astype(np.uint32))
