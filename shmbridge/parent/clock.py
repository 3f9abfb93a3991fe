"""How long a child has done what it does now, and when it must have finished."""

from __future__ import annotations

from time import monotonic
from typing import Optional

__all__ = ["Clock"]


class Clock:
    """The time of one child's current work.

    Attributes:
        since: when the work began (time.monotonic()).
        deadline: when it must be finished; None if it may take any time.
        longest: the seconds that the longest answer took.
    """

    def __init__(self) -> None:
        self.since = 0.0
        self.deadline: Optional[float] = None
        self.longest = 0.0

    def begin(self, timeout: Optional[float]) -> None:
        """Begin to measure new work, which must be finished in `timeout` seconds."""
        self.since = now = monotonic()
        self.deadline = None if timeout is None else now + timeout

    def answered(self, timeout: Optional[float]) -> None:
        """Measure the work that is done, and begin with the next."""
        now = monotonic()
        seconds, self.since = now - self.since, now
        if seconds > self.longest:
            self.longest = seconds
        self.deadline = None if timeout is None else now + timeout

    def stop(self) -> None:
        """Set no deadline: the child has nothing to do."""
        self.deadline = None

    def is_late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline
