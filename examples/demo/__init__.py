"""Demonstration: train an acoustic model with NumPy, with loss and error signal from Sprint.

Run it from the root of the repository: `python -m examples.demo`. See README.md in this folder.
"""
