"""Print Sprint's output in processes that have not configured logging."""

from __future__ import annotations

import logging
import sys
from typing import Optional


class StdoutHandler(logging.Handler):
    """Prints the log of shmbridge.sprint, unless logging is configured. RETURNN's children print likewise."""

    _logger = logging.getLogger("shmbridge.sprint")

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._level_before: Optional[int] = None

    def attach(self) -> None:
        """Add this handler to the logger, unless logging is configured."""
        if not self._logger.hasHandlers():
            self._level_before = self._logger.level
            self._logger.addHandler(self)
            self._logger.setLevel(logging.INFO)

    def detach(self) -> None:
        """Restore the logger."""
        if self._level_before is not None:
            self._logger.removeHandler(self)
            self._logger.setLevel(self._level_before)
            self._level_before = None

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, unless logging was configured after `attach`."""
        if logging.getLogger().handlers:
            return
        try:
            sys.stdout.write(self.format(record) + "\n")  # not a StreamHandler: sys.stdout may be replaced
        except Exception:
            self.handleError(record)
