"""Example: generate the files with which RASR computes CTC, MMI and minimum error. See README.md."""

from .files import Files, write
from .task import Segment, Task, Word, make_task

__all__ = ["Files", "Segment", "Task", "Word", "make_task", "write"]
