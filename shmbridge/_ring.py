"""The part of the C library that is written against CPython and numpy (csrc/ring_objects.c).

Its types are in _ring.pyi. It is the second module in the library that cffi builds: the two modules share one
copy of the code.
"""

from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec

from . import _native

# CPython finds PyInit__ring by the last part of the module name.
_loader = ExtensionFileLoader("shmbridge._ring", _native.__file__)
_module = module_from_spec(ModuleSpec("shmbridge._ring", _loader, origin=_native.__file__))
_loader.exec_module(_module)

CallLock = _module.CallLock
Claim = _module.Claim
End = _module.End
Record = _module.Record
copy = _module.copy
find_invalid = _module.find_invalid
sum_of_exponentials = _module.sum_of_exponentials
