"""Packages that only `make test FULL=1` installs, as they are large."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

_REASON = "{} is not installed; `make test FULL=1` installs it"
_PATTERN = re.compile(_REASON.format(r"(\w+)"))


def import_or_skip(package: str) -> Any:
    """Import a package, or skip the test, or the file, that needs it."""
    __tracebackhide__ = True  # the skip is reported at the caller's line
    return pytest.importorskip(package, reason=_REASON.format(package))


def describe_left_out(reasons: Iterable[str]) -> str:
    """Return one line about the tests that `import_or_skip` has skipped; empty if there are none.

    Args:
        reasons: of all skips of a run.
    """
    missing = Counter(match.group(1) for match in map(_PATTERN.search, reasons) if match)
    if not missing:
        return ""
    counts = ", ".join(f"{count} for lack of {package}" for package, count in sorted(missing.items()))
    return f"Left out: {counts} (a file counts as one). `make test FULL=1` installs these and runs all tests."
