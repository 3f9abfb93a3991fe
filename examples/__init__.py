"""Examples. Run each package with `python -m examples.NAME`."""
