"""Examples: each is a package that `python -m examples.NAME` runs."""
