"""What a check of the doctor's says."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILED", "OK", "WARNING", "Check"]

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of what.
        status: OK, WARNING (it works, but not as well as it could), or FAILED.
        found: what is there, with figures.
        advice: what to do; empty where the status is OK.
    """

    name: str
    status: str
    found: str
    advice: str = ""
