"""The error signal lands in the ring: numpy allocates Sprint's array where it is to be sent from.

Sprint has numpy allocate the array that it returns, and fills it with one memcpy. While our allocation
handler (NEP 49; csrc/landing.c) is active, the one allocation of the expected size is the claimed record, and
nothing has to be copied. Where that does not come about, the error signal is copied as ever.
"""

from __future__ import annotations

import ctypes
from typing import Any, Optional

import numpy as np

from .._native import ffi, lib
from ..ring import Claim

# The places of PyDataMem_SetHandler and PyDataMem_GetHandler in the table of numpy's C API, since numpy 1.22.
_SET_HANDLER, _GET_HANDLER = 304, 305
_NEWEST_KNOWN_NUMPY = 2  # major version; of later ones we do not know that the places are the same
_CAPSULE_NAME = b"mem_handler"  # at module level because a capsule keeps only the pointer to it


class Landing:
    """Numpy's allocation handler in the thread in which Sprint calls.

    Not thread-safe: one for that thread. The handler stays from the first `expect` on: but for the array
    that is expected, it leaves everything to the handler that was there before.
    """

    def __init__(self) -> None:
        self._known = int(np.__version__.split(".")[0]) <= _NEWEST_KNOWN_NUMPY
        self._handlers: Any = None  # ours and the one before it: both have to live

    def expect(self, claim: Claim) -> None:
        """From now on, the next array of the claim's size is to be allocated in the claim."""
        if self._handlers is None:
            if not self._known:
                return
            self._handlers = _install()
        claim.expect_landing()

    def stop(self) -> bool:
        """No longer. Returns whether one was; it stays where it is until it is freed."""
        return self._handlers is not None and bool(lib.shmb_landing_stop())


def _install() -> tuple[Any, Any]:
    """Put our handler before the one that is there; returns both, as capsules."""
    core = getattr(np, "_core", None) or np.core
    table = ctypes.cast(_pointer(core.multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[_GET_HANDLER] or 0)
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[_SET_HANDLER] or 0)
    default = get_handler()
    handler = lib.shmb_landing_handler(ffi.cast("void *", _pointer(default, _CAPSULE_NAME)))
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    ours = new_capsule(int(ffi.cast("uintptr_t", handler)), _CAPSULE_NAME, None)
    set_handler(ours)
    return ours, default


def _pointer(capsule: Any, name: Optional[bytes]) -> int:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return int(get_pointer(capsule, name) or 0)
