"""shmbridge: send posteriors to Sprint (RASR), receive losses and error signals, through shared memory.

The trainer uses SprintInstancePool. All errors are below ShmbridgeError. Sprint imports sprint_entry, which
imports shmbridge.child and nothing of the trainer's side.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.platform != "linux":
    raise ImportError(
        f"shmbridge needs Linux, because it uses futexes and pidfds; this system is {sys.platform}"
        " [not-linux]"
    )

from . import errors
from .errors import *  # noqa: F403 - the list is errors.__all__

if TYPE_CHECKING:
    from .parent import (
        Automata,
        BatchHandle,
        BatchResult,
        ChildStatistics,
        CompletedSegment,
        PoolStatistics,
        SegmentClaim,
        SegmentResult,
        SentSegment,
        SprintInstancePool,
        SprintSubprocessInstance,
    )

__version__ = "0.1.0"
__all__ = [  # noqa: PLE0604
    *errors.__all__,
    "Automata",
    "BatchHandle",
    "BatchResult",
    "ChildStatistics",
    "CompletedSegment",
    "PoolStatistics",
    "SegmentClaim",
    "SegmentResult",
    "SentSegment",
    "SprintInstancePool",
    "SprintSubprocessInstance",
]


def __getattr__(name: str) -> Any:
    """Import the trainer's side when it is first used: Sprint's side does not need it."""
    if name in __all__:
        from . import parent

        return getattr(parent, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r} [attribute]")
