"""Allophone state automata of a batch: asked for one by one, put together into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from .._native import lib
from ..errors import ProtocolError
from ..ring import Array, Record
from .batch import Batch, Job
from .pending import Sender


class AutomatonJob(Job):
    """One segment's automaton.

    Attributes:
        num_states: states; the first is the initial, the last the final one.
        edges: (3, E) uint32: from, to, emission.
        weights: (E,) float32.
    """

    answer_kind = lib.SHMB_AUTOMATON

    def __init__(self, batch: Batch, name: str) -> None:
        super().__init__(batch, name)
        self.num_states = 0
        self.edges: Array = np.empty((3, 0), np.uint32)
        self.weights: Array = np.empty(0, np.float32)

    def start(self, sender: Sender) -> bool:
        """Ask the child for it. False: there is no room in its ring now."""
        claim = sender.try_claim(lib.SHMB_AUTOMATON_REQUEST, 0, 0, self.name.encode())
        if claim is None:
            return False
        sender.send(claim, self)
        return True

    def _take(self, record: Record) -> None:
        matrix = np.array(record.matrix)  # once: Sprint may write into its own for as long as it likes
        problem = _problem(matrix, record.states)
        if problem is not None:
            self._batch.errors.append(
                ProtocolError(f"the automaton of {self.name!r}: {problem} [bad-answer]")
            )
            return
        self.num_states = record.states
        self.edges = matrix[:3]
        self.weights = matrix[3].view(np.float32)
        self._batch.statistics.automata += 1


def _problem(matrix: Array, states: int) -> Optional[str]:
    if matrix.dtype != np.uint32 or matrix.ndim != 2 or matrix.shape[0] != 4:
        return "not four rows of uint32"
    if not 0 < states < 1 << 32 or (matrix[:2].size and int(matrix[:2].max()) >= states):
        return f"an edge leads out of its {states} states"
    return None


def combine(jobs: Sequence[AutomatonJob]) -> tuple[Array, Array, Array]:
    """One automaton of them all, each sequence's states behind those of the one before.

    Returns:
        edges (4, E) uint32: from, to, emission, sequence; weights (E,) float32;
        start_end_states (2, batch) uint32.

    Raises:
        ProtocolError: there are more states than uint32 has numbers for.
    """
    total = sum(job.num_states for job in jobs)
    if total >= 1 << 32:
        raise ProtocolError(
            f"the automata have {total} states in all; 2**32 - 1 can be numbered [bad-answer]"
        )
    ends = np.cumsum([job.num_states for job in jobs], dtype=np.uint32)
    starts = ends - np.array([job.num_states for job in jobs], np.uint32)
    parts = []
    for index, (job, start) in enumerate(zip(jobs, starts)):
        part = np.empty((4, job.edges.shape[1]), np.uint32)
        part[:2] = job.edges[:2] + start
        part[2] = job.edges[2]
        part[3] = index
        parts.append(part)
    edges = np.concatenate([np.empty((4, 0), np.uint32), *parts], axis=1)
    weights = np.concatenate([np.empty(0, np.float32), *(job.weights for job in jobs)])
    return edges, weights, np.stack([starts, ends - np.uint32(1)]).astype(np.uint32)
