"""The code that runs inside Sprint: the functions and classes that Sprint calls through sprint_entry.py.

Every Sprint process loads this package, so it imports neither a framework nor shmbridge.parent.
"""

from .connect import init
from .control import PythonControl
from .layer import SprintNnPythonLayer
from .output import say
from .segment_order import getSegmentList

__all__ = ["PythonControl", "SprintNnPythonLayer", "getSegmentList", "init", "say"]
