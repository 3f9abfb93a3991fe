"""Format numbers for people."""

from __future__ import annotations

__all__ = ["format_bytes", "format_duration", "pluralize"]


def pluralize(count: int, one: str, more: str) -> str:
    """Return a count with its noun: "1 child", "2 children"."""
    return f"{count} {one if count == 1 else more}"


def format_bytes(count: int) -> str:
    """Return a number of bytes with its unit: "1.2 MB"."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"


def format_duration(seconds: float) -> str:
    """Return a duration with its unit: "1.2 ms"."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds:.1f} s"
