"""RETURNN's own parent (sprint.error_signals) and child (sprint.control), as its users have them."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from returnn.sprint.error_signals import SprintInstancePool
from returnn.util import task_system

from ..leftovers import temporary_folder
from ..sprint import MINIMAL_SPRINT
from .peer import Peer, PeerFailedError

_IPC_RMID = 0
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class ReturnnPipe(Peer):
    """Pickles through pipes: what RETURNN does unless it is told otherwise."""

    shared_memory = False

    def _start(self) -> None:
        folder = Path(self.resources.enter_context(temporary_folder()))
        # RETURNN starts one executable file without arguments of its own, and leaves its output as it is.
        executable, output = folder / "sprint", folder / "output"
        words = shlex.join([sys.executable, str(MINIMAL_SPRINT)])
        executable.write_text(f'#!/bin/sh\nexec {words} "$@" >{shlex.quote(str(output))} 2>&1\n')
        executable.chmod(0o700)
        self._pool = SprintInstancePool(
            {
                "sprintExecPath": str(executable),
                "usePythonSegmentOrder": False,
                "sprintControlConfig": {"quiet": True},
            }
        )
        self.resources.callback(self._close)
        try:
            with _quiet():
                for _ in range(3):  # it starts its child at the first call, and makes its memory at the next
                    self.round_trip(0.0)
        except Exception as error:
            said = _last_line(output) or f"{type(error).__name__}: {error}"
            raise PeerFailedError(f"RETURNN's child did not answer: {said}") from error

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        # One switch for the whole process, and both of RETURNN's ways are in it.
        task_system.SharedMemNumpyConfig["enabled"] = self.shared_memory
        work = self.work
        work.posteriors[0, 0, 0] = value
        _, error_signal = self._pool.get_batch_loss_and_error_signal(work.posteriors, work.lengths, work.tags)
        return float(error_signal[0, 0, 0])

    def _close(self) -> None:
        failed = sys.exc_info()[0] is not None
        pids = {instance.child_pid for instance in self._pool.instances if instance.child_pid}
        with _quiet():
            for instance in self._pool.instances:
                # It asserts that the child ended well, which one that was interrupted does not.
                with contextlib.suppress(AssertionError, OSError):
                    instance._exit_child(should_interrupt=failed or instance.is_calculating)
                atexit.unregister(instance.exit_handler)
        _remove_segments_of(pids)


class ReturnnSharedMemory(ReturnnPipe):
    """Its EnableAutoNumpySharedMemPickling: System V shared memory, for matrices of 8 MB and more."""

    shared_memory = True

    def _close(self) -> None:
        super()._close()
        with _quiet():
            for array in list(task_system.SharedNumpyArray.ServerInstances):
                array.mem.remove()
            task_system.SharedNumpyArray.ServerInstances.clear()
        # It takes the id 0, which the first segment after boot has, for an error, and leaves that one behind.
        _remove_segments_of({os.getpid()})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It prints, and its exception hook prints local variables too; none of it is ours to show."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _last_line(output: Path) -> str:
    """Where a child ends with an exception, this is the exception."""
    text = _COLOUR.sub("", output.read_text(errors="replace")) if output.exists() else ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _remove_segments_of(pids: set[int]) -> None:
    """Remove the shared memory that children left which did not end as they should."""
    libc = ctypes.CDLL(None, use_errno=True)
    for creator, segment in _system_v_segments():
        if creator in pids:
            libc.shmctl(segment, _IPC_RMID, None)


def _system_v_segments() -> list[tuple[int, int]]:
    """(pid of the creator, id) of each."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    if not rows:
        return []
    creator, segment = rows[0].index("cpid"), rows[0].index("shmid")
    return [(int(row[creator]), int(row[segment])) for row in rows[1:]]
