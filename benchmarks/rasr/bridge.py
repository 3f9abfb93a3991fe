"""shmbridge's pool, with pipelining over the batch."""

from __future__ import annotations

import time

import numpy as np

from shmbridge import SprintInstancePool

from .way import Round, Way


class Bridge(Way):
    """In the control loop: Sprint only answers its callback."""

    config = "loop"

    def _start(self) -> None:
        work = self.work
        self._error_signal = np.zeros_like(work.posteriors)
        pool = SprintInstancePool(
            sprint_exec_path=work.nn_trainer,
            ring_size=3 * (work.frames * work.labels * 4 + 4096),
            env=work.whole_env,
            **work.files.options(self.config),
        )
        self._pool = self.resources.enter_context(pool)

    def round(self) -> Round:
        """Compute the batch once."""
        work = self.work
        start = time.perf_counter_ns()
        losses, error_signal = self._pool.get_batch_loss_and_error_signal(
            work.posteriors, work.lengths, work.names, out=self._error_signal
        )
        return Round(time.perf_counter_ns() - start, losses, error_signal)


class BridgeTrainer(Bridge):
    """In Sprint's own trainer with a Python layer as its network, as RETURNN's child."""

    config = "trainer"
