"""RETURNN's own parent and child, unmodified, with the minimal Sprint."""

from __future__ import annotations

import sys

from ..sprint import MINIMAL_SPRINT
from .peer import Peer
from .returnn_parent import ReturnnParent


class ReturnnPipe(Peer):
    """Pickles through pipes, RETURNN's default."""

    shared_memory = False

    def _start(self) -> None:
        command = [sys.executable, str(MINIMAL_SPRINT)]
        parent = ReturnnParent(command, shared_memory=self.shared_memory)
        self._parent = self.resources.enter_context(parent)
        with self._parent.explained():
            for _ in range(3):  # the first call starts the child, the next one creates shared memory
                self.round_trip(0.0)

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        _, error_signal = self._parent.exchange(work.posteriors, work.lengths, work.tags)
        return float(error_signal[0, 0, 0])


class ReturnnSharedMemory(ReturnnPipe):
    """RETURNN's EnableAutoNumpySharedMemPickling: System V shared memory for matrices of 8 MB or more."""

    shared_memory = True
