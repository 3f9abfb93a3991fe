"""RETURNN's own parent and child, unmodified.

They work with an nn-trainer only in Sprint's own trainer with a Python layer. In the control loop, RETURNN's
child uses the command get_loss_and_error_signal, which RASR b6ff1a89 does not have. When Sprint iterates the
corpus, RASR passes orthographies as bytes but accepts only str, and RETURNN's child returns them unchanged.
"""

from __future__ import annotations

import time

from ..peers.returnn_parent import ReturnnParent
from .way import Round, Way


class ReturnnPipe(Way):
    """Pickles through pipes, RETURNN's default."""

    shared_memory = False

    def _start(self) -> None:
        work = self.work
        options = work.files.options("trainer")
        parent = ReturnnParent(
            [work.nn_trainer],
            shared_memory=self.shared_memory,
            config=options["sprint_config"],
            segment_order=options["use_python_segment_order"],
            env=work.env,
        )
        self._parent = self.resources.enter_context(parent)

    def round(self) -> Round:
        """Compute the batch once."""
        work = self.work
        with self._parent.explained():
            start = time.perf_counter_ns()
            losses, error_signal = self._parent.exchange(work.posteriors, work.lengths, work.names)
            return Round(time.perf_counter_ns() - start, losses, error_signal)


class ReturnnSharedMemory(ReturnnPipe):
    """RETURNN's EnableAutoNumpySharedMemPickling: System V shared memory for matrices of 8 MB or more."""

    shared_memory = True
