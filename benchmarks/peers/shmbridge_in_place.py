"""shmbridge in place: the network writes into the ring and reads the error signal from the ring."""

from __future__ import annotations

from ..sprint import open_pool
from .peer import SEGMENT_NAME, TIMEOUT, Peer


class InPlace(Peer):
    """Claim, write, send, wait for the result, read, release."""

    def _start(self) -> None:
        self._pool = self.resources.enter_context(open_pool(self.work.nbytes))

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        segment = self._pool.claim(SEGMENT_NAME, self.work.rows, self.work.columns)
        segment.posteriors[0, 0] = value
        # A check for NaN would read the whole matrix, which the other in-place peers do not do either.
        with segment.send(check_nan=False).result(TIMEOUT) as result:
            return float(result.error_signal[0, 0])
