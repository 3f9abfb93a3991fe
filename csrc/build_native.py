"""Build the C part: shmbridge._native in cffi's API mode, and shmbridge._ring in the same library.

setup.py names this file.
"""

import os
from pathlib import Path

import numpy as np
from cffi import FFI

# cffi runs this file with exec, without __file__, in the folder of setup.py.
CSRC = Path("csrc")
SOURCES = [
    *("memory.c", "doorbell.c", "ring.c", "wait.c", "latch.c", "parent_death.c", "copy.c", "allocation.c"),
    *("signals.c", "ring_objects.c", "call_lock.c", "path_sums.c"),
]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "declarations.h").read_text("utf-8"))
ffibuilder.set_source(
    "shmbridge._native",
    '#include "shmbridge.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    depends=[str(CSRC / "shmbridge.h"), str(CSRC / "declarations.h"), str(CSRC / "call_lock.h")],
    include_dirs=[str(CSRC), np.get_include()],
    py_limited_api=False,  # ring_objects.c uses faster calls outside of the limited API
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
