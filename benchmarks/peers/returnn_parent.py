"""RETURNN's own parent (sprint.error_signals) and child (sprint.control), around any Sprint."""

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
    """Its pool with one child, which is started at the first exchange. A context manager.

    Args:
        command: the Sprint.
        shared_memory: System V shared memory for matrices of 8 MB and more (its
            EnableAutoNumpySharedMemPickling); else pickles through pipes, as it does unless told otherwise.
        config: options for the Sprint.
        segment_order: whether Sprint asks the child for one; not in the control loop.
        env: variables that are set for the Sprint, beside the parent's own.
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
        # RETURNN starts one executable file without arguments of its own, and leaves its output as it is.
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
        """Loss (batch,) and error signal (time,batch,label) of a batch.

        Args:
            posteriors: (time,batch,label) float32.
            lengths: (batch,).
            tags: the segments' names.
        """
        # One switch for the whole process, and both of RETURNN's ways are in it.
        task_system.SharedMemNumpyConfig["enabled"] = self._shared_memory
        loss, error_signal = self._pool.get_batch_loss_and_error_signal(posteriors, lengths, tags)
        return loss, error_signal

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Around exchanges: hides what RETURNN prints, and tells why its child did not answer.

        Raises:
            PeerFailedError: an exchange in here failed.
        """
        try:
            with _quiet():
                yield
        except Exception as error:
            # What a pipe's end says is that the child has ended; the cause is in the child's own words.
            ended = any(isinstance(e, (EOFError, OSError)) for e in (error, error.__context__))
            child = _exception_in(self._output) or (ended and _last_line(self._output))
            more = f"; its child said: {child}" if child else ""
            raise PeerFailedError(f"RETURNN's parent said {type(error).__name__}: {error}{more}") from error

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
        if self._shared_memory:
            _remove_own_segments()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """It prints, and its exception hook prints local variables too; none of it is ours to show."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _exception_in(output: Path) -> str:
    """The last exception that a child told of; behind it RASR writes that it ends, and where it was."""
    return next(filter(_RAISED.match, _last_lines(output)), "")


def _last_line(output: Path) -> str:
    return next(_last_lines(output), "")


def _last_lines(output: Path) -> Iterator[str]:
    """The lines that are not empty, the last one first."""
    text = _COLOUR.sub("", output.read_text(errors="replace")) if output.exists() else ""
    return (line.strip() for line in reversed(text.splitlines()) if line.strip())


def _remove_own_segments() -> None:
    with _quiet():
        for array in list(task_system.SharedNumpyArray.ServerInstances):
            array.mem.remove()
        task_system.SharedNumpyArray.ServerInstances.clear()
    # It takes the id 0, which the first segment after boot has, for an error, and leaves that one behind.
    _remove_segments_of({os.getpid()})


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
