"""A Sprint process: how it is started, what it says, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from .. import config as config_strings
from .. import protocol
from .._native import lib
from ..errors import (
    BridgeTimeoutError,
    OptionError,
    PeerGoneError,
    ProtocolError,
    ResourceError,
    SegmentTimeoutError,
    without_traceback,
)
from . import forks
from .logged import handlers_contained
from .mailbox import Mailbox
from .options import Options
from .watcher import Watcher

_sprint_log = logging.getLogger("shmbridge.sprint")

# Of output, for the error that reports a death: RASR writes 50 lines of stack trace below the reason for it.
_KEPT_LINES = 100
_STACK_GRACE = 2.0  # seconds for a hanging process to say where it is, before it is killed
_MAX_LINE = 4096  # bytes; what has no line end is cut there
_READ_SIZE = 65536
# glibc gives Sprint's big matrices back to the kernel after each segment, and the next pays for their pages
# again: CTC on 1000 x 12000 takes 0.34 s with these and 0.40 s without. What the user sets wins.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
# Where sprint_entry.py lies, both in a checkout and installed.
MODULE_PATH = Path(__file__).resolve().parents[2]
_MODULE_NAME = "sprint_entry"


class SprintProcess:
    """Spawns Sprint with its ends of pipes and shared memory, and watches it.

    Thread-safety: everything may be called from any thread; what the watcher's thread writes is only
    ever replaced or appended to.

    Hold forks off while it is made (`forks.held_off`): they would keep its pipes open.

    Args:
        options: the user's.
        watcher: watches output, control pipe and death from here on.
        shm_fd: the instance's shared memory, for the child to inherit. It stays the caller's.

    Raises:
        OptionError: the executable cannot be executed.
        ResourceError: no process, memory or descriptor is left.

    Attributes:
        pid: of the child.
        messages: control messages that have come and not been taken.
        broken: what was wrong with the control messages, for which the child was ended, or None.
        exited: the process has ended, and its last output and messages have been read.
        has_news: one of these three has changed since this was last set to False.
    """

    def __init__(self, options: Options, watcher: Watcher, shm_fd: int) -> None:
        self.messages = Mailbox()
        self.broken: Optional[ProtocolError] = None
        self._decoder = protocol.Decoder()
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial_line = b""
        self.exited = False
        self.has_news = False
        self._exited = threading.Event()
        self._exiting = False
        with _Descriptors() as descriptors:
            p2c_read, self._p2c_fd = descriptors.pipe()
            self._c2p_fd, c2p_write = descriptors.pipe()
            self._output_fd, output_write = descriptors.pipe()
            config: dict[str, object] = {
                "c2p_fd": c2p_write,
                "p2c_fd": p2c_read,
                "shm_fd": shm_fd,
                "bell_fd": watcher.doorbell_fd,
            }
            parent_pidfd = _pidfd(os.getpid())
            if parent_pidfd is not None:
                descriptors.add(parent_pidfd)
                config["parent_pidfd"] = parent_pidfd
            inherited = [int(str(descriptor)) for descriptor in config.values()]
            config["minPythonControlVersion"] = options.min_python_control_version
            config.update(options.sprint_control_config or {})
            command = _command(options, config_strings.compose(config))
            self._executable = command[0]
            self._popen = _spawn(command, options, inherited, output_write)
            self.pid = self._popen.pid
            try:
                exit_fd = self._descriptor_of_exit()
            except BaseException:  # without it, nobody would ever know how the process ends
                os.killpg(self.pid, signal.SIGKILL)
                self._popen.wait()
                raise
            descriptors.keep(self._p2c_fd, self._c2p_fd, self._output_fd)
        forks.let_go_in_forks(self)
        self._open = {self._output_fd, self._c2p_fd}  # the watcher closes them at their end
        for descriptor in (self._c2p_fd, self._output_fd):
            os.set_blocking(descriptor, False)
        watcher.watch(self._output_fd, self._on_output)
        watcher.watch(self._c2p_fd, self._on_message)
        watcher.watch(exit_fd, self._on_exit)

    # --- what the owner does

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message; a process that is gone is told by `exited`, not here."""
        try:
            protocol.send(self._p2c_fd, kind, **fields)
        except OSError:
            pass

    def kill(self) -> None:
        """End the process, and all that it started, at once."""
        if not self.exited and self._popen.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)  # it leads a group of its own
            except ProcessLookupError:
                pass

    def wait(self, timeout: float) -> bool:
        """Wait for the process to end, at most so many seconds. Returns whether it has."""
        return self._exited.wait(min(timeout, threading.TIMEOUT_MAX))

    def close(self, timeout: float) -> None:
        """Ask the process to exit; kill it if it has not after so many seconds. May be called again."""
        self.send("exit")
        self._close_pipe()
        if not self.wait(timeout):
            self.kill()
            self._exited.wait()

    def leave_to_parent(self, _parent_pid: int) -> None:
        """After a fork, in the child of the fork: do not keep the pipe to Sprint open."""
        self._close_pipe()

    def end_hanging(self, timeout: float, segments: Sequence[str]) -> SegmentTimeoutError:
        """End a process that has worked for `timeout` seconds on the first of the segments; the error for it.

        No segments: it was to send features to be scored, or to end.

        The signal has our side of it write its stacks and end. Where it cannot, being stopped for instance,
        it is killed.
        """
        self._popen.send_signal(lib.SHMB_STACK_SIGNAL)
        if not self.wait(_STACK_GRACE):
            self.kill()
            self._exited.wait()
        what = "gave no answer" if segments else "neither asked for scores nor ended"
        return SegmentTimeoutError(
            f"Sprint (pid {self.pid}, {self._executable!r}) {what} within {timeout} seconds "
            "(segment_timeout) and was ended [timeout]",
            segments=segments,
            last_output=tuple(self._output),
        )

    def end_unready(self, timeout: float) -> BridgeTimeoutError:
        """Kill a process that has not said hello within `timeout` seconds; the error for it."""
        self.kill()
        self._exited.wait()  # its last output has been read then
        return BridgeTimeoutError(
            f"Sprint was not ready within {timeout} seconds (start_timeout) [start-timeout]",
            last_output=tuple(self._output),
        )

    def death(self, segments: Sequence[str] = ()) -> PeerGoneError:
        """The error that says how the process ended, or that its pipes did."""
        code = self._popen.returncode
        exit_code = signal_name = None
        if code is None:
            how = "is gone"
        elif code < 0:
            signal_name = _signal_name(-code)
            how = f"was ended by {signal_name}"
        else:
            exit_code = code
            how = f"exited with code {code}"
        raised = self.messages.look("exception")
        if raised is not None:
            how += f" after its Python raised {raised['exception_type']}: {raised['message']}"
        return PeerGoneError(
            f"Sprint (pid {self.pid}, {self._executable!r}) {how} [peer-gone]",
            exit_code=exit_code,
            signal_name=signal_name,
            segments=segments,
            last_output=tuple(self._output),
        )

    def _close_pipe(self) -> None:
        # Forgotten first: a fork in between would else close what has its number by then.
        descriptor, self._p2c_fd = self._p2c_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    # --- what the watcher's thread does

    def _on_output(self) -> bool:
        return self._pump(self._output_fd, self._take_output)

    def _on_message(self) -> bool:
        return self._pump(self._c2p_fd, self._take_messages)

    def _pump(self, descriptor: int, take: Callable[[bytes], None]) -> bool:
        """Read once and hand it on. False at the end, where the watcher closes the descriptor."""
        data = _read(descriptor)
        if data is None:
            return True
        if not data:
            self._open.discard(descriptor)
        take(data)
        return bool(data)

    def _take_output(self, data: bytes) -> None:
        """Hand on whole lines; no data: the end."""
        lines = (self._partial_line + data).split(b"\n")
        self._partial_line = lines.pop()
        if len(self._partial_line) > _MAX_LINE or (not data and self._partial_line):
            lines.append(self._partial_line)
            self._partial_line = b""
        for line in lines:
            text = line[:_MAX_LINE].decode("utf-8", "replace").rstrip("\r")
            self._output.append(text)
            with handlers_contained():
                _sprint_log.info("[%d] %s", self.pid, text)

    def _take_messages(self, data: bytes) -> None:
        """Decode control messages; no data: the end."""
        if self.broken is not None:
            return
        try:
            for message in self._decoder.feed(data):
                self.messages.put(message)
        except ProtocolError as error:
            self.broken = without_traceback(error)
            self.kill()  # now: it may go on writing for as long as the trainer is busy elsewhere
        self.has_news = True
        if not data and not self._exiting:
            # Nobody will answer any more. What still runs there holds memory that nobody will read.
            self.kill()

    def _on_exit(self) -> bool:
        self._exiting = True
        self._popen.wait()
        # Read what was written before the end. Not until the pipes' end: a grandchild may hold them open.
        for descriptor, take in (
            (self._output_fd, self._take_output),
            (self._c2p_fd, self._take_messages),
        ):
            while descriptor in self._open:
                data = _read(descriptor)
                if not data:
                    break
                take(data)
        self._take_output(b"")
        self.exited = True
        self.has_news = True
        self._exited.set()
        return False

    def _descriptor_of_exit(self) -> int:
        """A descriptor that is readable, or at its end, when the process has ended."""
        pidfd = _pidfd(self.pid)
        if pidfd is not None:
            return pidfd
        read_end, write_end = os.pipe()

        def reap() -> None:
            self._popen.wait()
            os.close(write_end)

        threading.Thread(target=reap, name="shmbridge reaper", daemon=True).start()
        return read_end


class _Descriptors:
    """Closes the descriptors that were opened with it, but for those that are kept, whatever happens."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def pipe(self) -> tuple[int, int]:
        try:
            read_end, write_end = os.pipe()
        except OSError as error:
            raise ResourceError(
                f"cannot open a pipe to Sprint: {error.strerror}; see `ulimit -n` and what keeps files open"
                " [descriptors-processes]"
            ) from error
        self._open |= {read_end, write_end}
        return read_end, write_end

    def add(self, descriptor: int) -> None:
        self._open.add(descriptor)

    def keep(self, *descriptors: int) -> None:
        self._open -= set(descriptors)


def _command(options: Options, config: str) -> list[str]:
    """Sprint's command line. What the user gives comes last, so that it wins."""
    head, *rest = options.command()
    module = [
        f"--*.pymod-path={MODULE_PATH}",
        f"--*.pymod-name={_MODULE_NAME}",
        f"--*.pymod-config={config}",
    ]
    order = [
        "--*.python-segment-order=true",
        f"--*.python-segment-order-pymod-path={MODULE_PATH}",
        f"--*.python-segment-order-pymod-name={_MODULE_NAME}",
        f"--*.python-segment-order-config={config}",
        "--*.python-segment-order-allow-copy=false",
    ]
    leading = options.leading_arguments
    arguments = [
        "--*.python-control-enabled=true",
        *module,
        *(order if options.use_python_segment_order else []),
    ]
    return [head, *rest[:leading], *arguments, *rest[leading:]]


def _spawn(
    command: list[str], options: Options, inherited: list[int], output: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            # Ctrl-C in the terminal is for the trainer, which ends its children itself.
            start_new_session=True,
            env={**_MALLOC, **(os.environ if options.env is None else options.env)},
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
            raise OptionError(
                f"sprint_exec_path: cannot execute {command[0]!r}: {error.strerror} [executable]"
            ) from error
        raise ResourceError(
            f"cannot start {command[0]!r}: {error.strerror} (see `ulimit -a`) [descriptors-processes]"
        ) from error


def _pidfd(pid: int) -> Optional[int]:
    """A descriptor that is readable when the process has ended; None where the kernel is older than 5.3."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise ResourceError(
            f"cannot open a descriptor for process {pid}: {error.strerror} (see `ulimit -n`)"
            " [descriptors-processes]"
        ) from error


def _read(descriptor: int) -> Optional[bytes]:
    """What is there; b"" at the end, None where nothing is there now."""
    try:
        return os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
