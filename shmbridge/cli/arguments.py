"""Types of arguments, for argparse."""

from __future__ import annotations

import math

__all__ = ["count", "seconds", "shape"]


def count(text: str) -> int:
    """A positive integer."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """A positive number."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def shape(text: str) -> tuple[int, int]:
    """TIMExLABEL."""
    rows, _, columns = text.partition("x")
    return count(rows), count(columns)
