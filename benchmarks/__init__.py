"""Measure the exchange, and other ways to do it, in one run."""
