"""Builds the C part: shmbridge._native in cffi's API mode, and in the same library shmbridge._ring.

Named in setup.py.
"""

import os
from pathlib import Path

import numpy as np
from cffi import FFI

# cffi runs this file with exec, so that __file__ is not set: setup.py's folder is the current one.
CSRC = Path("csrc")
SOURCES = ["memory.c", "doorbell.c", "ring.c", "wait.c", "guard.c", "copy.c", "landing.c", "ring_objects.c"]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "declarations.h").read_text())
ffibuilder.set_source(
    "shmbridge._native",
    '#include "shmbridge.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    depends=[str(CSRC / "shmbridge.h")],
    include_dirs=[str(CSRC), np.get_include()],
    py_limited_api=False,  # ring_objects.c uses calls that are quicker than those which never change
    libraries=["pthread"],
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-fvisibility=hidden",
        *os.environ.get("SHMBRIDGE_CFLAGS", "").split(),
    ],
    extra_link_args=os.environ.get("SHMBRIDGE_LDFLAGS", "").split(),
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
