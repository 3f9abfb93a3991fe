"""The progress of a run."""

from __future__ import annotations


class Progress:
    """Ignores the progress. terminal.Bar shows it."""

    def begin(self, what: str, total: int) -> None:
        """Begin a part of the run with `total` steps."""

    def advance(self, detail: str = "") -> None:
        """Begin the next step, which `detail` describes."""
