"""Argument types for argparse."""

from __future__ import annotations

import argparse
import math

__all__ = ["count", "seconds", "shape"]


def count(text: str) -> int:
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer [cli-arguments]")
    return int(text)


def seconds(text: str) -> float:
    """Parse a positive, finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds [cli-arguments]")
    return number


def shape(text: str) -> tuple[int, int]:
    """Parse TIMExLABEL."""
    rows, by, columns = text.partition("x")
    if not by:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form TIMExLABEL, such as 1000x12001 [cli-arguments]"
        )
    return count(rows), count(columns)
