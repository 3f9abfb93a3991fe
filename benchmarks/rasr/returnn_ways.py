"""Through RETURNN's own parent and child, as they are.

Of the ways to drive a nn-trainer, Sprint's own trainer with a Python layer is the one for both. In the
control loop RETURNN's child asks for get_loss_and_error_signal, which RASR b6ff1a89 does not know; where
Sprint iterates the corpus, RASR gives orthographies as bytes and takes them as str only, and RETURNN's child
hands on what it got.
"""

from __future__ import annotations

import time

from ..peers.returnn_parent import ReturnnParent
from .way import Round, Way


class ReturnnPipe(Way):
    """Pickles through pipes: what RETURNN does unless it is told otherwise."""

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
    """Its EnableAutoNumpySharedMemPickling: System V shared memory, for matrices of 8 MB and more."""

    shared_memory = True
