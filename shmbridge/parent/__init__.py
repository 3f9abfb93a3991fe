"""The trainer's side: the pool, its children, and the requests that they answer."""

from .automata import Automata
from .batch import BatchResult
from .in_place import SegmentClaim, SentSegment
from .pool import SprintInstancePool, SprintSubprocessInstance
from .segment_result import SegmentResult
from .statistics import ChildStatistics, PoolStatistics

__all__ = [
    "Automata",
    "BatchResult",
    "ChildStatistics",
    "PoolStatistics",
    "SegmentClaim",
    "SegmentResult",
    "SentSegment",
    "SprintInstancePool",
    "SprintSubprocessInstance",
]
