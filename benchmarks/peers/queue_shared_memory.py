"""The standard library: multiprocessing's queues, with shared_memory for the matrices."""

from __future__ import annotations

import contextlib
import multiprocessing
import secrets
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from shmbridge.cli.null_sprint import error_signal_for

from ..leftovers import name_of_run, remove_shared_memory
from .child import die_with_parent
from .peer import SEGMENT_NAME, TIMEOUT, Array, Peer


class QueueSharedMemory(Peer):
    """A block of shared memory in each direction, and a SimpleQueue, which is faster than Queue."""

    def _start(self) -> None:
        nbytes = self.work.nbytes
        # With our own names: multiprocessing's resource tracker does not track a block whose creation was
        # interrupted by Ctrl-C.
        prefix = f"{name_of_run()}queue-"
        self.resources.callback(remove_shared_memory, prefix)
        names = [f"{prefix}{secrets.token_hex(4)}" for _ in range(2)]
        blocks = [self.resources.enter_context(_block(name, nbytes)) for name in names]
        # Spawned, not forked: a fork would inherit the file descriptors of all other peers.
        context = multiprocessing.get_context("spawn")
        self._requests = context.SimpleQueue()
        self._answers = context.SimpleQueue()
        self.resources.callback(self._requests.close)
        self.resources.callback(self._answers.close)
        process = context.Process(
            target=_serve,
            args=(self._requests, self._answers, *(block.name for block in blocks)),
            daemon=True,
        )
        process.start()
        self.resources.callback(_end, process)
        shape = self.work.posteriors.shape
        self._posteriors: Array = np.ndarray(shape, np.float32, blocks[0].buf)
        self._error_signal: Array = np.ndarray(shape, np.float32, blocks[1].buf)
        self.resources.callback(self._drop_views)

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        work = self.work
        work.posteriors[0, 0, 0] = value
        np.copyto(self._posteriors, work.posteriors)
        self._requests.put((SEGMENT_NAME, work.rows, work.columns))
        self._answers.get()
        np.copyto(work.error_signal, self._error_signal)
        return float(work.error_signal[0, 0, 0])

    def _drop_views(self) -> None:
        # A block cannot be closed while an array views it.
        self._posteriors = self._error_signal = np.empty(0, np.float32)


@contextlib.contextmanager
def _block(name: str, nbytes: int) -> Any:
    block = SharedMemory(name, create=True, size=nbytes)
    try:
        yield block
    finally:
        with contextlib.suppress(BufferError):
            block.close()
        block.unlink()


def _end(process: Any) -> None:
    process.terminate()
    process.join(TIMEOUT)


def _serve(requests: Any, answers: Any, posteriors_name: str, error_signal_name: str) -> None:
    parent = multiprocessing.parent_process()
    die_with_parent(parent.pid if parent is not None else None)
    blocks = [SharedMemory(posteriors_name), SharedMemory(error_signal_name)]
    while True:
        name, rows, columns = requests.get()
        posteriors: Array = np.ndarray((rows, columns), np.float32, blocks[0].buf)
        target: Array = np.ndarray((rows, columns), np.float32, blocks[1].buf)
        np.copyto(target, error_signal_for(posteriors.T).T)
        answers.put((name, 0.0))
