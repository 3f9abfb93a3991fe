"""Build the C part (csrc/) with cffi; pyproject.toml configures everything else."""

import sys

if sys.platform != "linux":
    sys.exit(f"shmbridge needs Linux, because it uses futexes and pidfds; this system is {sys.platform}")

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:ffibuilder"])
