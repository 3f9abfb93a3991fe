"""The module that Sprint imports (`--*.pymod-name=sprint_entry`): the names that Sprint calls.

Everything is implemented in shmbridge.child; this file only gives it the names and the place that
Sprint's options expect.
"""

from shmbridge.child import PythonControl, SprintNnPythonLayer, getSegmentList, init
from shmbridge.child import say as print  # noqa: A004 - Sprint modules offer their print replacement so

__all__ = ["PythonControl", "SprintNnPythonLayer", "getSegmentList", "init", "print"]
