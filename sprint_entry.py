"""The module that Sprint imports (`--*.pymod-name=sprint_entry`): the names that Sprint calls.

shmbridge.child implements them. This module gives them the names and the place that Sprint's options require.
"""

from shmbridge.child import PythonControl, SprintNnPythonLayer, getSegmentList, init
from shmbridge.child import say as print  # noqa: A004 - by convention, Sprint modules replace print

__all__ = ["PythonControl", "SprintNnPythonLayer", "getSegmentList", "init", "print"]
