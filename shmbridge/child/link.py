"""The child's connection to the parent: pipes, channel, and the thread that detects the parent's end."""

from __future__ import annotations

import contextlib
import enum
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Optional

import numpy as np

from .. import config as config_strings
from .. import protocol
from .._native import lib
from ..channel import Channel
from ..descriptors import pipe
from ..doorbell import Doorbell
from ..errors import OptionError, PeerGoneError, ProtocolError, ResourceError
from ..memory import PAGE, Geometry, Memory
from ..ring import Claim
from .output import log_call, warn
from .signals import set_handlers

_READ_SIZE = 65536
_EXIT_GRACE = 0.5  # seconds for Sprint to exit by itself after the parent's end


class Landing(enum.Enum):
    """Whether NumPy allocates Sprint's error signals in the ring.

    A record is sent when its array is freed, because until then Sprint may change it. An array that Sprint
    keeps costs a copy, and its space in the ring. So the first segment is a trial: its array is allocated
    elsewhere, and observed.
    """

    ON_TRIAL = 1
    ON = 2
    OFF = 3  # Sprint has kept an array


class ParentLink:
    """The open connection.

    Thread-safety: only Sprint's thread may call `claim`; any thread may call the other methods.

    Args:
        c2p_fd: the pipe for control messages to the parent.
        p2c_fd: the pipe for control messages from the parent.
        config: the settings of the config string: shm_fd and bell_fd (the shared memory), and parent_pidfd
            if the kernel has pidfds.
        sprint_version: the version of Sprint's callback interface, if Sprint passed one.

    Raises:
        OptionError: a setting is missing, or is not an open descriptor.
        PeerGoneError: the parent closed the pipe before its hello.
        ProtocolError: the parent runs another version of shmbridge.
        ResourceError: no thread can be started, or the shared memory cannot be mapped.

    Attributes:
        channel: the rings and doorbells that the child shares with the parent.
        ended: whether the parent sent exit or is gone, or this side closed the connection.
        landing: whether NumPy allocates Sprint's error signals in the ring.
    """

    landing = Landing.ON_TRIAL

    def __init__(
        self, c2p_fd: int, p2c_fd: int, config: Mapping[str, str], sprint_version: Optional[int]
    ) -> None:
        shm_fd = config_strings.get_int(config, "shm_fd")
        bell_fd = config_strings.get_int(config, "bell_fd")
        has_pidfd = "parent_pidfd" in config
        self._parent_pidfd = config_strings.get_int(config, "parent_pidfd") if has_pidfd else None
        for name, descriptor in (
            ("c2p_fd", c2p_fd),
            ("p2c_fd", p2c_fd),
            ("shm_fd", shm_fd),
            ("bell_fd", bell_fd),
            ("parent_pidfd", self._parent_pidfd),
        ):
            _check_open(name, descriptor)
            if descriptor is not None:
                os.set_inheritable(descriptor, False)  # Sprint's own children must not keep it open.
        self._c2p_fd = c2p_fd
        self._p2c_fd = p2c_fd
        self._decoder = protocol.Decoder()
        self.ended = False
        pidfd = -1 if self._parent_pidfd is None else self._parent_pidfd
        # Before the first read, so that Sprint exits with the parent even if it blocks anywhere below.
        error = lib.shmb_exit_with_parent(pidfd, p2c_fd, int(_EXIT_GRACE * 1000))
        if error:
            raise ResourceError(
                f"Sprint cannot start a thread: {os.strerror(error)}; check `ulimit -a`"
                " [descriptors-processes]"
            )

        hello = self._read_hello()
        geometry = Geometry(hello["posteriors_size"], hello["error_signals_size"])
        memory = Memory(shm_fd, geometry.total_size)
        bell_memory = Memory(bell_fd, PAGE)
        os.close(shm_fd)
        os.close(bell_fd)
        self.channel = Channel.of_child(
            memory, geometry, own=Doorbell(memory, create=False), peer=Doorbell(bell_memory, create=False)
        )
        set_handlers()
        self.send(
            "hello",
            protocol=protocol.PROTOCOL_VERSION,
            abi=lib.SHMB_ABI,
            pid=os.getpid(),
            python=".".join(str(part) for part in sys.version_info[:3]),
            numpy=np.__version__,
            sprint_version=sprint_version,
        )
        self._stop_read, self._stop_write = pipe()
        self._watcher: Optional[threading.Thread] = None
        _links.add(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._c2p_fd < 0

    def start_watching(self) -> None:
        """Start the thread that watches the pipe and the parent, unless it was started before.

        Sprint's thread never reads the pipe: it computes, or sleeps at the doorbell.
        """
        if self._watcher is None and not self.closed:
            self._watcher = threading.Thread(target=self._watch, name="shmbridge control", daemon=True)
            self._watcher.start()

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message; ignore a parent that is gone, which sets `ended`."""
        with contextlib.suppress(OSError):
            protocol.send(self._c2p_fd, kind, **fields)

    def claim(
        self, kind: int, rows: int, columns: int, *, sequence: int, dtype: Optional[int] = None
    ) -> Optional[Claim]:
        """Wait for room in the ring and return a claim of it; None if the parent ended the connection.

        Raises:
            SegmentTooLargeError: the record does not fit into the empty ring.
        """
        released = -1
        while not self.ended:
            claim = self.channel.sender.claim(kind, rows, columns, sequence=sequence, dtype=dtype)
            if claim is not None:
                return claim
            if released != self.channel.sender.released:
                # With this the parent detects that its own user must release results to make room.
                released = self.channel.sender.released
                self.send("no_room", sequence=sequence, released=released)
            self.channel.wait(for_room=True)
        return None

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self.closed:
            return
        self.ended = True
        os.close(self._stop_write)
        if self._watcher not in (None, threading.current_thread()):
            self._watcher.join()
        self._close_descriptors(self._stop_read)

    def disown(self) -> None:
        """Leave the connection to Sprint: called in a fork of it. Each answer then raises UsageError."""
        if not self.closed:
            self.channel.disown()
            self._close_descriptors(self._stop_read, self._stop_write)

    def _close_descriptors(self, *stop_pipe: int) -> None:
        for descriptor in (self._c2p_fd, self._p2c_fd, self._parent_pidfd, *stop_pipe):
            if descriptor is not None:
                os.close(descriptor)
        self._c2p_fd = -1

    def _read_hello(self) -> protocol.Message:
        while True:
            data = os.read(self._p2c_fd, _READ_SIZE)
            if not data:
                raise PeerGoneError("the parent closed the control pipe before its hello [parent-gone]")
            messages = self._decoder.feed(data)
            if not messages:
                continue
            hello = messages.pop(0)
            if hello["kind"] != "hello":
                raise ProtocolError(
                    f"the parent's first message is {hello['kind']!r}; it must be 'hello' [bad-message]"
                )
            self.ended = self._has_exit(messages)  # The pool may be closed while Sprint starts.
            protocol.check_versions(hello)
            for size in ("posteriors_size", "error_signals_size"):
                if not isinstance(hello.get(size), int):
                    raise ProtocolError(
                        f"{size} in the parent's hello is {hello.get(size)!r}; it must be an integer"
                        " [bad-message]"
                    )
            return hello

    def _watch(self) -> None:
        """Block until the parent sends exit or ends, then wake Sprint's thread."""
        parent_is_gone = True
        try:
            parent_is_gone = self._watch_until_end()
        except (OSError, ProtocolError) as error:
            warn(f"lost the control pipe: {error}; ending [parent-gone]")
        finally:
            self.ended = True
            self.channel.doorbell.poke()
        if parent_is_gone:
            # Sprint exits by itself when its thread calls Python again. That may never happen: it may compute
            # for long, or hang. Then it would keep its memory and a core although no process needs it.
            time.sleep(_EXIT_GRACE)
            os._exit(1)

    def _watch_until_end(self) -> bool:
        """Return True if the parent is gone, False if it sent exit or this side closes the connection."""
        poll = select.poll()
        poll.register(self._p2c_fd, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        if self._parent_pidfd is not None:
            # The pipe alone does not suffice: a fork of the parent may hold its other end open.
            poll.register(self._parent_pidfd, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._stop_read in ready:
                return False
            if self._p2c_fd in ready:
                data = os.read(self._p2c_fd, _READ_SIZE)
                if not data:
                    warn("the parent closed the control pipe; ending [parent-gone]")
                    return True
                if self._has_exit(self._decoder.feed(data)):
                    log_call("the parent asks to exit")
                    return False
            elif self._parent_pidfd in ready:
                warn("the parent process ended; ending [parent-gone]")
                return True

    def _has_exit(self, messages: list[protocol.Message]) -> bool:
        for message in messages:
            if message["kind"] == "exit":
                return True
            raise ProtocolError(f"the parent sent the unexpected message {message['kind']!r} [bad-message]")
        return False


_links: weakref.WeakSet[ParentLink] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.disown()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_open(name: str, descriptor: Optional[int]) -> None:
    try:
        if descriptor is not None:
            os.fstat(descriptor)
    except (OSError, OverflowError):
        raise OptionError(
            f"{name!r} in the config string is {descriptor}; it must be an open descriptor: "
            "start Sprint through shmbridge, and close no descriptors in a wrapper [no-parent]"
        ) from None
