"""The severity of the lines that Sprint prints."""

from __future__ import annotations

import logging
import re

# RASR writes <warning component="…">, the message in lines of its own, and </warning>.
_PROBLEM = re.compile(r"configuration error|<(?P<tag>warning|error|critical-error)[ >]")
_MAX_LINES = 20  # of an element; another thread of Sprint may write between its lines, or its end may be lost


class Severity:
    """Return the logging level of each line of one Sprint.

    Attributes:
        begins: whether the latest line begins a report, instead of continuing one.
    """

    def __init__(self) -> None:
        self.begins = False
        self._level = logging.INFO  # of the element that is open
        self._end = ""
        self._lines_left = 0

    def of(self, line: str) -> int:
        """Return the level of the next line."""
        if self._lines_left > 0:
            self._lines_left = 0 if self._end in line else self._lines_left - 1
            self.begins = False
            return self._level
        self.begins = True
        match = _PROBLEM.search(line)
        if match is None:
            return logging.INFO
        tag = match["tag"]
        self._level = logging.WARNING if tag == "warning" else logging.ERROR
        if tag is not None:
            self._end = f"</{tag}>"
            self._lines_left = 0 if self._end in line else _MAX_LINES
        return self._level
