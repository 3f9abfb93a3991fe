"""Where Sprint's output goes in a process that has not set up logging."""

from __future__ import annotations

import logging
import sys
from typing import Optional


class Output(logging.Handler):
    """Writes what Sprint says to standard output, as RETURNN's children do, where nobody else takes it."""

    _logger = logging.getLogger("shmbridge.sprint")

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._level_before: Optional[int] = None

    def attach(self) -> None:
        """Take what is logged, if logging has not been set up."""
        if not self._logger.hasHandlers():
            self._level_before = self._logger.level
            self._logger.addHandler(self)
            self._logger.setLevel(logging.INFO)

    def detach(self) -> None:
        """Leave logging as it was."""
        if self._level_before is not None:
            self._logger.removeHandler(self)
            self._logger.setLevel(self._level_before)
            self._level_before = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless logging was set up after `attach`."""
        if logging.getLogger().handlers:
            return
        try:
            sys.stdout.write(self.format(record) + "\n")  # looked up each time: it may be redirected
        except Exception:
            self.handleError(record)
