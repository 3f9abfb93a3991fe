"""Which child receives the next record, and whether a core is left for a second copying thread."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Optional

from .child import Child
from .child_state import ChildState

__all__ = ["free_child", "least_loaded", "queue_receivers", "second_thread_is_free"]

# One segment that Sprint computes, and the next one in its ring. More would bind segments to a child before
# it is known which child is free first.
_MAX_IN_FLIGHT = 2

_CORES = len(os.sched_getaffinity(0))
_READY, _DEAD = ChildState.READY, ChildState.DEAD  # global names cost less on the hot path


def least_loaded(children: Sequence[Child]) -> Child:
    """Return the child with the fewest frames in flight or claimed; a dead one only if all are dead."""
    return min(children, key=_load)


def free_child(children: Sequence[Child], full: Collection[Child]) -> Optional[Child]:
    """Return the child that is to receive the next queued request; None if none is free.

    Args:
        children: those of the pool.
        full: those whose rings have no room for it.
    """
    if len(children) == 1:
        return children[0] if _is_free(children[0], full) else None
    return min(
        (child for child in queue_receivers(children) if _is_free(child, full)), key=_in_flight, default=None
    )


def queue_receivers(children: Sequence[Child]) -> Sequence[Child]:
    """Return the children that may receive queued requests, now or once they are free."""
    # Behind an open claim, a request would wait for the user.
    return [child for child in children if child.oldest_open_claim() is None] or children


def second_thread_is_free(children: Sequence[Child]) -> bool:
    """Return whether a core is idle on which a second thread may copy half of a large matrix.

    One core does not use all of the memory's bandwidth. But on a core on which Sprint computes, a second
    thread delays Sprint by more than it gains for the copy, for which nothing waits.
    """
    busy = 0
    for child in children:
        if child.in_flight:
            busy += 1
    return busy + 2 <= _CORES


def _is_free(child: Child, full: Collection[Child]) -> bool:
    return child.state is _READY and len(child.in_flight) < _MAX_IN_FLIGHT and child not in full


def _load(child: Child) -> tuple[bool, int, int]:
    if child.state is _DEAD:  # and not replaced yet
        return (True, 0, 0)
    return (False, child.in_flight.num_frames, child.channel.sender.used)


def _in_flight(child: Child) -> tuple[int, int]:
    return (child.in_flight.num_frames, len(child.in_flight))
