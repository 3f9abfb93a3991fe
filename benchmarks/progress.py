"""How far the run is: told by what measures, shown by whoever wants to."""

from __future__ import annotations


class Progress:
    """Shows nothing; terminal.Bar shows a bar."""

    def begin(self, what: str, total: int) -> None:
        """A part of the run with so many steps begins."""

    def advance(self, detail: str = "") -> None:
        """One more step is done; `detail` is what comes next."""
