"""What runs in the trainer: the children, and the batches that are handed to them."""

from .pool import SprintInstancePool, SprintSubprocessInstance
from .statistics import ChildStatistics, PoolStatistics

__all__ = ["ChildStatistics", "PoolStatistics", "SprintInstancePool", "SprintSubprocessInstance"]
