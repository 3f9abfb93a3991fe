"""Example: generate the files with which RASR's nn-trainer computes CTC for shmbridge. See README.md."""

from .files import Files, write
from .task import Segment, Task, Word, make_task

__all__ = ["Files", "Segment", "Task", "Word", "make_task", "write"]
