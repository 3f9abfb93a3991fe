"""Builds the C part (see csrc/) with cffi; everything else is said in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["csrc/build_native.py:ffibuilder"])
