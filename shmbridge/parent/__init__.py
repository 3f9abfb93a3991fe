"""What runs in the trainer: the children, and the batches that are handed to them."""

from .pool import SprintInstancePool, SprintSubprocessInstance

__all__ = ["SprintInstancePool", "SprintSubprocessInstance"]
