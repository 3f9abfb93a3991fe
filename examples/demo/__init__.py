"""A demonstration: an acoustic model trained with numpy, its loss and error signal computed by Sprint.

Run it from the root of the repository: `python -m examples.demo`. See README.md beside this file.
"""
