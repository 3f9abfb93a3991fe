"""Spawn a Sprint process, and report how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import Optional

from .. import protocol
from .._native import lib
from ..descriptors import pipe
from ..errors import (
    BridgeTimeoutError,
    PeerGoneError,
    ProtocolError,
    ResourceError,
    SegmentTimeoutError,
    without_traceback,
)
from . import fork_safety
from .ending import UNKNOWN, Ending, kill_and_wait, open_pidfd, signal_group, signal_member
from .latch import Latch
from .options import Options
from .pipes import LatestMessages, OutputLines, read_available, read_some
from .spawn import spawn
from .watcher import Watcher, errors_contained

_STACK_GRACE = 2.0  # seconds for a hung process to write its stacks before it is killed


class SprintProcess:
    """Spawn Sprint with its ends of the pipes and of the shared memory, and watch it.

    Thread-safety: all methods may be called from any thread. The watcher's thread only replaces attributes
    or appends to them.

    Create it within `fork_safety.fork_blocked`: a fork in between would keep its pipes open.

    Args:
        options: the pool's.
        watcher: watches the output, the control pipe and the exit from here on.
        shm_fd: the channel's shared memory, for the child to inherit. The caller closes it.

    Raises:
        OptionError: the executable cannot be executed.
        ResourceError: no process, memory or descriptor is left.

    Attributes:
        pid: of the process.
        messages: the control messages that have come and were not taken.
        broken: the error in the control messages for which the process was killed, or None.
        exited: the process has ended, and its last output and messages have been read.
        status: how it ended; unknown before.
        has_events: one of these three has changed since this was last set to False.
    """

    def __init__(self, options: Options, watcher: Watcher, shm_fd: int) -> None:
        self.messages = LatestMessages()
        self.broken: Optional[ProtocolError] = None
        self.exited = False
        self.status = UNKNOWN
        self.has_events = False
        self._decoder = protocol.Decoder()
        self._output = OutputLines()
        self._exited = Latch()
        self._exiting = False
        with contextlib.ExitStack() as child_ends, contextlib.ExitStack() as own_ends:
            p2c_read, self._p2c_fd = _pipe(child_ends, own_ends)
            c2p_write, self._c2p_fd = reversed(_pipe(own_ends, child_ends))
            output_write, self._output_fd = reversed(_pipe(own_ends, child_ends))
            config: dict[str, object] = {
                "c2p_fd": c2p_write,
                "p2c_fd": p2c_read,
                "shm_fd": shm_fd,
                "bell_fd": watcher.doorbell_fd,
            }
            parent_pidfd = open_pidfd(os.getpid())
            if parent_pidfd is not None:
                child_ends.callback(os.close, parent_pidfd)
                config["parent_pidfd"] = parent_pidfd
            inherited = [int(str(descriptor)) for descriptor in config.values()]
            config["minPythonControlVersion"] = options.min_python_control_version
            config.update(options.sprint_control_config or {})
            command = options.command_line.with_bridge(config, options.use_python_segment_order)
            self._executable = command[0]
            self.pid = spawn(command, options, inherited, output_write)
            try:
                self._ending = Ending(self.pid)
            except BaseException:  # without it, no event would ever report the exit
                kill_and_wait(self.pid)
                raise
            own_ends.pop_all()
        fork_safety.register(self)
        self._watcher = watcher
        self._open = {self._output_fd, self._c2p_fd}  # the watcher closes them at their end
        for descriptor in (self._c2p_fd, self._output_fd):
            os.set_blocking(descriptor, False)
        watcher.watch(self._output_fd, self._on_output)
        watcher.watch(self._c2p_fd, self._on_message)
        watcher.watch(self._ending.descriptor, self._on_exit)

    # --- called by the owner

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message. If the process has ended, `exited` says so, not this method."""
        with contextlib.suppress(OSError):
            protocol.send(self._p2c_fd, kind, **fields)

    def kill(self) -> None:
        """Kill the process and its process group; any other process that is Sprint ends soon after."""
        self._kill_group()
        self._close_pipe()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the exit. Return whether the process has exited."""
        return self._exited.wait(timeout)

    def join_or_kill(self, timeout: float) -> None:
        """Wait for the exit; kill the process after `timeout` seconds."""
        if not self.join(timeout):
            self.kill()
            self._exited.wait()

    def close(self, timeout: float) -> None:
        """Ask the process to exit; kill it after `timeout` seconds. May be called again."""
        self.send("exit")
        try:
            self.join_or_kill(timeout)
        finally:
            self._close_pipe()  # not before: Sprint exits soon after it, even within exit_timeout

    def after_fork_in_child(self, _owner_pid: int) -> None:
        """Close the pipe to Sprint: called in a fork of the trainer."""
        self._close_pipe()

    def terminate_hung(self, timeout: float, segments: Sequence[str]) -> SegmentTimeoutError:
        """End a process that has worked on the first of `segments` for `timeout` seconds; return the error.

        Without segments, the process was to request scores or to end. The signal makes the child's Python
        write its stacks and end. A process that cannot, because it is stopped for instance, is killed.
        """
        signal_member(self.pid, self.messages.sprint_pid, lib.SHMB_STACK_SIGNAL)
        self.join_or_kill(_STACK_GRACE)
        what = "gave no answer" if segments else "neither requested scores nor ended"
        return SegmentTimeoutError(
            f"Sprint (pid {self.pid}, {self._executable!r}) {what} within {timeout} seconds "
            "(segment_timeout) and was ended [timeout]",
            segments=segments,
            last_output=tuple(self._output.last),
            reported=self._output.latest_error,
        )

    def terminate_unready(self, timeout: float) -> BridgeTimeoutError:
        """Kill a process that has sent no hello within `timeout` seconds; return the error."""
        self.kill()
        self._exited.wait()  # its last output has been read then
        return BridgeTimeoutError(
            f"Sprint was not ready within {timeout} seconds (start_timeout) [start-timeout]",
            last_output=tuple(self._output.last),
            reported=self._output.latest_error,
        )

    def exit_error(self, segments: Sequence[str] = ()) -> PeerGoneError:
        """Return the error that says how the process ended."""
        how = str(self.status) if self.exited else "is gone"
        raised = self.messages.peek("exception")
        if segments and self.status.signal_name == "SIGABRT":
            how += (
                ", as it aborts on posteriors that it cannot use; if its config lacks "
                "input-in-log-space=true, add that"
            )
        elif raised is not None:
            how += f" after its Python raised {raised['exception_type']}: {raised['message']}"
        return PeerGoneError(
            f"Sprint (pid {self.pid}, {self._executable!r}) {how} [peer-gone]",
            exit_code=self.status.exit_code,
            signal_name=self.status.signal_name,
            segments=segments,
            last_output=tuple(self._output.last),
            reported=self._output.latest_error,
        )

    def reported_errors(self) -> tuple[str, ...]:
        """Return the first lines that report errors, of all that Sprint has written so far."""
        self._watcher.catch_up()
        return tuple(self._output.errors)

    def last_line_with(self, text: str) -> Optional[str]:
        """Return the latest line that contains the text, of all that Sprint has written so far.

        The child's own lines count only if there are no others: Sprint's say why, the child's what follows.
        """
        self._watcher.catch_up()
        found = [line.strip() for line in tuple(self._output.last) if text in line]
        own = [line for line in found if not line.startswith(protocol.CHILD_LINE)]
        return next(reversed(own or found), None)

    def _close_pipe(self) -> None:
        # Reset before closing: otherwise a fork in between closes a descriptor that reuses the number.
        descriptor, self._p2c_fd = self._p2c_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _kill_group(self) -> None:
        if not self.exited:
            signal_group(self.pid, signal.SIGKILL)

    # --- called in the watcher's thread

    def _on_output(self) -> bool:
        with errors_contained():
            return self._pump(self._output_fd, self._take_output)
        return True  # lines are lost; but a pipe that nobody reads would end Sprint

    def _on_message(self) -> bool:
        return self._pump(self._c2p_fd, self._take_messages)

    def _pump(self, descriptor: int, take: Callable[[bytes], None]) -> bool:
        """Read once and pass the data on. Return False at the end: the watcher then closes the descriptor."""
        data = read_some(descriptor)
        if data is None:
            return True
        if not data:
            self._open.discard(descriptor)
        take(data)
        return bool(data)

    def _take_output(self, data: bytes) -> None:
        self._output.feed(data, self.pid)

    def _take_messages(self, data: bytes) -> None:
        """Decode control messages; no data mean the end of the pipe."""
        if self.broken is not None:
            return
        try:
            for message in self._decoder.feed(data):
                self.messages.put(message)
        except BaseException as error:
            if isinstance(error, ProtocolError):
                self.broken = without_traceback(error)
            else:  # of this process, such as MemoryError: without the message, the trainer might wait forever
                self.broken = ProtocolError(f"Sprint's message could not be read: {error!r} [bad-message]")
            self._kill_group()  # now: it could go on writing for as long as the trainer is busy elsewhere
        self.has_events = True
        if not data and not self._exiting:
            # The process can answer no more, and it holds memory that the trainer may need.
            self._kill_group()

    def _on_exit(self) -> bool:
        self._exiting = True
        try:
            for step in (self._collect, self._take_last_messages, self._take_last_output):
                with errors_contained():
                    step()
        finally:  # whatever failed above: the death must be noticed
            self.exited = True
            self.has_events = True
            self._exited.open()
        return False

    def _collect(self) -> None:
        self.status = self._ending.collect()

    def _take_last_messages(self) -> None:
        self._take_last(self._c2p_fd, self._take_messages)

    def _take_last_output(self) -> None:
        try:
            self._take_last(self._output_fd, self._take_output)
        finally:
            self._take_output(b"")

    def _take_last(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        """Read what was written before the exit, and no more: a grandchild may write without end."""
        if descriptor in self._open:
            self._open.discard(descriptor)
            try:
                data = read_available(descriptor)
            finally:
                self._watcher.unwatch(descriptor)
            if data:
                take(data)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Open a pipe whose ends belong to these two stacks."""
    try:
        read_end, write_end = pipe()
    except OSError as error:
        raise ResourceError(
            f"cannot open a pipe to Sprint: {error.strerror}; see `ulimit -n` and what keeps files open"
            " [descriptors-processes]"
        ) from error
    reader.callback(os.close, read_end)
    writer.callback(os.close, write_end)
    return read_end, write_end
