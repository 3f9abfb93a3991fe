"""A demonstration: numpy trains an acoustic model with the loss and the error signal that Sprint computes.

Run it from the root of the repository: `python -m examples.demo`. See README.md in this folder.
"""
