"""What runs inside Sprint: the functions and classes that Sprint calls, handed on by sprint_entry.py.

Nothing here imports a framework, or anything of the parent's side: every Sprint process loads it.
"""

from .control import PythonControl, init
from .layer import SprintNnPythonLayer
from .output import say
from .segment_order import getSegmentList

__all__ = ["PythonControl", "SprintNnPythonLayer", "getSegmentList", "init", "say"]
