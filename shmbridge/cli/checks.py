"""The result of one of the doctor's checks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILED", "OK", "WARNING", "Check", "check"]

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        status: OK, WARNING (it works, but not as well as it could), or FAILED.
        found: what the check found, with figures.
        advice: what to do; empty if the status is OK.
    """

    name: str
    status: str
    found: str
    advice: str = ""


def check(name: str, passed: bool, found: str, advice: str, otherwise: str = FAILED) -> Check:
    """Return a check with the status OK if it passed; if not, with the status `otherwise` and the advice."""
    return Check(name, OK, found) if passed else Check(name, otherwise, found, advice)
