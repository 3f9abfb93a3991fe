"""Build the C part (csrc/) with cffi; pyproject.toml configures everything else."""

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:ffibuilder"])
