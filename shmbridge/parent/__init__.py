"""What runs in the trainer: the children, and the batches that are handed to them."""

from .pool import SprintInstancePool, SprintSubprocessInstance
from .statistics import InstanceStatistics, PoolStatistics

__all__ = ["InstanceStatistics", "PoolStatistics", "SprintInstancePool", "SprintSubprocessInstance"]
