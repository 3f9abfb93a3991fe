"""The trainer's side: the pool, its children, and the requests that they answer."""

from .automata import Automata
from .batch import BatchResult
from .batch_handle import BatchHandle, CompletedSegment
from .in_place import SegmentClaim, SentSegment
from .pool import SprintInstancePool, SprintSubprocessInstance
from .segment_result import SegmentResult
from .statistics import ChildStatistics, PoolStatistics

__all__ = [
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
