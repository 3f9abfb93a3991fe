"""The time that a child has spent on its current work, and its deadline."""

from __future__ import annotations

from time import monotonic
from typing import Optional

__all__ = ["Clock"]


class Clock:
    """The time of one child's current work.

    Attributes:
        since: when the work began (time.monotonic()).
        deadline: when it must be finished; None if it may take any time.
    """

    def __init__(self) -> None:
        self.since = 0.0
        self.deadline: Optional[float] = None
        self._is_starting = False

    def start(self, timeout: float) -> None:
        """Begin with the start of the child, whose deadline holds until `ready`."""
        self.begin(timeout)
        self._is_starting = True

    def ready(self, timeout: Optional[float]) -> None:
        """Begin with the work that waits for the child, if `timeout` is given."""
        self._is_starting = False
        self.begin(timeout)

    def begin(self, timeout: Optional[float]) -> None:
        """Begin to measure new work, which must be finished in `timeout` seconds."""
        if not self._is_starting:
            self.since = now = monotonic()
            self.deadline = None if timeout is None else now + timeout

    def limit(self, timeout: Optional[float]) -> None:
        """Begin with `timeout`, unless a deadline is set already; None sets no deadline."""
        if timeout is None:
            self.stop()
        elif self.deadline is None:
            self.begin(timeout)

    def stop(self) -> None:
        """Set no deadline: the child has nothing to do."""
        if not self._is_starting:
            self.deadline = None

    def is_late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline
