"""RETURNN's own parent (sprint.error_signals) and child (sprint.control), with any Sprint."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from returnn.sprint.error_signals import SprintInstancePool
from returnn.util import task_system

from ..leftovers import temporary_folder
from .peer import PeerFailedError

Array = np.ndarray[Any, np.dtype[Any]]

_IPC_RMID = 0
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_RAISED = re.compile(r"\w*(Error|Exception)\b:?")


class ReturnnParent:
    """RETURNN's pool with one child, which the first exchange starts. A context manager.

    Args:
        command: of the Sprint.
        shared_memory: use System V shared memory for matrices of 8 MB or more
            (EnableAutoNumpySharedMemPickling); if False, pickle through pipes, which is the default.
        config: options for the Sprint.
        segment_order: whether Sprint requests a segment order from the child; not in the control loop.
        env: additional environment variables of the Sprint.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        shared_memory: bool,
        config: Sequence[str] = (),
        segment_order: bool = False,
        env: Optional[Mapping[str, str]] = None,
    ) -> None:
        self._command = command
        self._env = env or {}
        self._shared_memory = shared_memory
        self._options = {
            "sprintConfigStr": shlex.join(config),
            "usePythonSegmentOrder": segment_order,
            "sprintControlConfig": {"quiet": True},
        }
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> ReturnnParent:
        folder = Path(self._resources.enter_context(temporary_folder()))
        # RETURNN starts a single executable without extra arguments, and does not capture its output.
        executable, self._output = folder / "sprint", folder / "output"
        words = shlex.join(["env", *(f"{name}={value}" for name, value in self._env.items()), *self._command])
        executable.write_text(f'#!/bin/sh\nexec {words} "$@" >{shlex.quote(str(self._output))} 2>&1\n')
        executable.chmod(0o700)
        self._pool = SprintInstancePool({"sprintExecPath": str(executable), **self._options})
        self._resources.callback(self._close)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def exchange(self, posteriors: Array, lengths: Array, tags: Sequence[str]) -> tuple[Array, Array]:
        """Return loss (batch,) and error signal (time,batch,label) of a batch.

        Args:
            posteriors: (time,batch,label) float32.
            lengths: (batch,).
            tags: the segment names.
        """
        # The switch is global, but both of RETURNN's ways run in this process.
        task_system.SharedMemNumpyConfig["enabled"] = self._shared_memory
        loss, error_signal = self._pool.get_batch_loss_and_error_signal(posteriors, lengths, tags)
        return loss, error_signal

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Hide RETURNN's output during exchanges, and explain why its child did not answer.

        Raises:
            PeerFailedError: an exchange in the context failed.
        """
        try:
            with _quiet():
                yield
        except Exception as error:
            # The end of a pipe means that the child ended; its output contains the cause.
            ended = any(isinstance(e, (EOFError, OSError)) for e in (error, error.__context__))
            child = _exception_in(self._output) or (ended and _last_line(self._output))
            more = f"; its child printed: {child}" if child else ""
            raise PeerFailedError(f"RETURNN's parent raised {type(error).__name__}: {error}{more}") from error

    def _close(self) -> None:
        failed = sys.exc_info()[0] is not None
        pids = {instance.child_pid for instance in self._pool.instances if instance.child_pid}
        with _quiet():
            for instance in self._pool.instances:
                # It asserts that the child exited with code 0, which an interrupted child does not.
                with contextlib.suppress(AssertionError, OSError):
                    instance._exit_child(should_interrupt=failed or instance.is_calculating)
                atexit.unregister(instance.exit_handler)
        _remove_segments_of(pids)
        if self._shared_memory:
            _remove_own_segments()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the output of RETURNN and of its exception hook, which prints local variables."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _exception_in(output: Path) -> str:
    """Return the last exception in the output. RASR prints more lines after it."""
    return next(filter(_RAISED.match, _last_lines(output)), "")


def _last_line(output: Path) -> str:
    return next(_last_lines(output), "")


def _last_lines(output: Path) -> Iterator[str]:
    """Return the lines that are not empty, the last one first."""
    text = _COLOUR.sub("", output.read_text(errors="replace")) if output.exists() else ""
    return (line.strip() for line in reversed(text.splitlines()) if line.strip())


def _remove_own_segments() -> None:
    with _quiet():
        for array in list(task_system.SharedNumpyArray.ServerInstances):
            array.mem.remove()
        task_system.SharedNumpyArray.ServerInstances.clear()
    # RETURNN treats the id 0, of the first segment after boot, as an error, and does not remove it.
    _remove_segments_of({os.getpid()})


def _remove_segments_of(pids: set[int]) -> None:
    """Remove the shared memory of children that did not end normally."""
    libc = ctypes.CDLL(None, use_errno=True)
    for creator, segment in _system_v_segments():
        if creator in pids:
            libc.shmctl(segment, _IPC_RMID, None)


def _system_v_segments() -> list[tuple[int, int]]:
    """Return (pid of the creator, id) of each segment."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    if not rows:
        return []
    creator, segment = rows[0].index("cpid"), rows[0].index("shmid")
    return [(int(row[creator]), int(row[segment])) for row in rows[1:]]
