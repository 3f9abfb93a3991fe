"""What has crossed the bridge."""

from __future__ import annotations

import dataclasses

from .._native import lib
from ..ring import Record

_SKIPPED = lib.SHMB_SKIPPED  # looked up once: this stands in what runs for each segment


@dataclasses.dataclass
class Statistics:
    """Counts since the pool was created.

    Attributes:
        segments: answered with a loss.
        skipped: answered by Sprint without one: it discarded the segment.
        failed: not answered: an exception there, or its end.
        posteriors_bytes: sent, of matrices.
        error_signal_bytes: received, of matrices.
        automata: received.
        restarts: children that were started anew.
    """

    segments: int = 0
    skipped: int = 0
    failed: int = 0
    posteriors_bytes: int = 0
    error_signal_bytes: int = 0
    automata: int = 0
    restarts: int = 0

    def count(self, record: Record) -> None:
        """Count the answer to a segment."""
        if record.status == _SKIPPED:
            self.skipped += 1
        else:
            self.segments += 1
            self.error_signal_bytes += 4 * record.rows * record.columns
