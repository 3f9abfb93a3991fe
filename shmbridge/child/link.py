"""The child's connection to its parent: pipes, channel, and the thread that watches for the parent's end."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import sys
import threading
import time
from collections.abc import Mapping
from typing import Optional

import numpy as np

from .. import config as config_strings
from .. import protocol
from .._native import lib
from ..channel import Channel
from ..doorbell import Doorbell
from ..errors import OptionError, PeerGoneError, ProtocolError, ResourceError
from ..memory import PAGE, Geometry, Memory
from ..ring import Claim
from .output import report, warn

_READ_SIZE = 65536
_GRACE = 0.5  # seconds for Sprint to end in its own way when the parent is gone


class ParentLink:
    """Opens the bridge as the config string says, and knows whether it still stands.

    Thread-safety: `claim` belongs to the thread in which Sprint calls; the rest may be called from any.

    Args:
        c2p_fd: the pipe on which control messages go to the parent.
        p2c_fd: the pipe on which they come.
        config: the config string's settings: shm_fd and bell_fd (the shared memory), and parent_pidfd,
            where the kernel has such.
        sprint_version: the callback version of this Sprint, if it told one.

    Raises:
        OptionError: a setting is missing or no descriptor.
        PeerGoneError: the parent closed the pipe before its hello.
        ProtocolError: the parent speaks another version.
        ResourceError: no thread can be started.

    Attributes:
        channel: to the parent.
        ended: the parent asked to exit, or is gone. There is nothing more to do.
    """

    def __init__(
        self, c2p_fd: int, p2c_fd: int, config: Mapping[str, str], sprint_version: Optional[int]
    ) -> None:
        needed_by = "the connection to the parent (shmbridge.SprintSubprocessInstance sets it)"
        shm_fd = config_strings.get_int(config, "shm_fd", needed_by)
        bell_fd = config_strings.get_int(config, "bell_fd", needed_by)
        has_pidfd = "parent_pidfd" in config
        self._parent_pidfd = config_strings.get_int(config, "parent_pidfd", needed_by) if has_pidfd else None
        for name, descriptor in (
            ("c2p_fd", c2p_fd),
            ("p2c_fd", p2c_fd),
            ("shm_fd", shm_fd),
            ("bell_fd", bell_fd),
            ("parent_pidfd", self._parent_pidfd),
        ):
            _check_open(name, descriptor)
        self._c2p_fd = c2p_fd
        self._p2c_fd = p2c_fd
        self._decoder = protocol.Decoder()
        self.ended = False
        if self._parent_pidfd is not None:
            # Before the first read: whatever Sprint or this does from here on, it ends with the parent.
            error = lib.shmb_exit_with_pidfd(self._parent_pidfd, int(_GRACE * 1000))
            if error:
                raise ResourceError(
                    f"cannot start a thread in Sprint: {os.strerror(error)} (see `ulimit -a`)"
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
        self.send(
            "hello",
            protocol=protocol.PROTOCOL_VERSION,
            abi=lib.SHMB_ABI,
            pid=os.getpid(),
            python=".".join(str(part) for part in sys.version_info[:3]),
            numpy=np.__version__,
            sprint_version=sprint_version,
        )
        # Where it hangs is asked by this signal: it writes its stacks, and ends as the signal would have it.
        # (The module `signal` would say which it is, but its import alone has Python handle SIGINT.)
        faulthandler.register(lib.SHMB_STACK_SIGNAL, file=2, all_threads=True, chain=True)
        self._stop_read, self._stop_write = os.pipe()
        self._watcher: Optional[threading.Thread] = None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._c2p_fd < 0

    def start_watching(self) -> None:
        """Start the thread that watches pipe and parent, unless it runs or has ended already.

        Sprint's main thread never gets to the pipe: it computes, or sleeps at the doorbell.
        """
        if self._watcher is None and not self.closed:
            self._watcher = threading.Thread(target=self._watch, name="shmbridge control", daemon=True)
            self._watcher.start()

    def send(self, kind: str, **fields: object) -> None:
        """Send a control message. A parent that is gone is no error here: `ended` will say so."""
        with contextlib.suppress(OSError):
            protocol.send(self._c2p_fd, kind, **fields)

    def claim(
        self, kind: int, rows: int, columns: int, *, sequence: int, dtype: Optional[int] = None
    ) -> Optional[Claim]:
        """Claim a record for the parent, waiting for room. None: the parent is gone.

        Raises:
            SegmentTooLargeError: it can never fit.
        """
        released = -1
        while not self.ended:
            claim = self.channel.sender.claim(kind, rows, columns, sequence=sequence, dtype=dtype)
            if claim is not None:
                return claim
            if released != self.channel.sender.released:
                # So that the parent knows whether it is its user who has to make room.
                released = self.channel.sender.released
                self.send("no_room", sequence=sequence, released=released)
            self.channel.wait(for_room=True)
        return None

    def close(self) -> None:
        """End the connection: the parent sees the pipe close. May be called again."""
        if self.closed:
            return
        self.ended = True
        os.close(self._stop_write)
        if self._watcher not in (None, threading.current_thread()):
            self._watcher.join()
        for descriptor in (self._c2p_fd, self._p2c_fd, self._parent_pidfd, self._stop_read):
            if descriptor is not None:
                os.close(descriptor)
        self._c2p_fd = -1

    def _read_hello(self) -> protocol.Message:
        while True:
            data = os.read(self._p2c_fd, _READ_SIZE)
            if not data:
                raise PeerGoneError("the parent closed the control pipe before it said hello [parent-gone]")
            messages = self._decoder.feed(data)
            if not messages:
                continue
            hello = messages.pop(0)
            if hello["kind"] != "hello":
                raise ProtocolError(
                    f"the parent's first message is {hello['kind']!r}, not hello [bad-message]"
                )
            self.ended = self._has_exit(messages)  # a pool that was closed while Sprint started
            protocol.check_versions(hello)
            for size in ("posteriors_size", "error_signals_size"):
                if not isinstance(hello.get(size), int):
                    raise ProtocolError(f"the parent's hello has no {size} [bad-message]")
            return hello

    def _watch(self) -> None:
        """Until the end: block on the pipe and on the parent's life, and wake the main thread."""
        parent_is_gone = True
        try:
            parent_is_gone = self._watch_until_end()
        except (OSError, ProtocolError) as error:
            _try_to_warn(f"lost the control pipe: {error}; ending [parent-gone]")
        finally:
            self.ended = True
            self.channel.doorbell.poke()
        # Asked to exit, Sprint may hang all the same, and the parent may end before it has ended us.
        if parent_is_gone or self._watch_until_gone():
            # Sprint ends by itself when its main thread next comes to us. That may be never: it may compute
            # for long, or hang. Nobody waits for it, and it holds memory and a core of somebody's cluster.
            time.sleep(_GRACE)
            os._exit(1)

    def _watch_until_end(self) -> bool:
        """Returns whether the end is the parent's; not, where it asked to exit, or this side closes."""
        poll = select.poll()
        poll.register(self._p2c_fd, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        if self._parent_pidfd is not None:
            # The pipe alone would not tell: a fork of the parent may hold its other end open.
            poll.register(self._parent_pidfd, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._stop_read in ready:
                return False
            if self._p2c_fd in ready:
                data = os.read(self._p2c_fd, _READ_SIZE)
                if not data:
                    _try_to_warn("the parent closed the control pipe; ending [parent-gone]")
                    return True
                if self._has_exit(self._decoder.feed(data)):
                    report("the parent asks to exit")
                    return False
            elif self._parent_pidfd in ready:
                _try_to_warn("the parent process ended; ending [parent-gone]")
                return True

    def _watch_until_gone(self) -> bool:
        """Returns whether the parent has ended; not, where this side closes."""
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        # The parent closes the pipe when it asks to exit, and lives on: its pidfd tells, where there is one.
        if self._parent_pidfd is not None:
            poll.register(self._parent_pidfd, select.POLLIN)
        return self._stop_read not in {descriptor for descriptor, _ in poll.poll()}

    def _has_exit(self, messages: list[protocol.Message]) -> bool:
        for message in messages:
            if message["kind"] == "exit":
                return True
            raise ProtocolError(
                f"the parent sent {message['kind']!r}, which is not for it to send [bad-message]"
            )
        return False


def _try_to_warn(text: str) -> None:
    with contextlib.suppress(OSError):  # who read Sprint's output is gone as well
        warn(text)


def _check_open(name: str, descriptor: Optional[int]) -> None:
    try:
        if descriptor is not None:
            os.fstat(descriptor)
    except (OSError, OverflowError):
        raise OptionError(
            f"{name!r} in the config string is {descriptor}, which is no open descriptor: "
            "it was closed, or Sprint was not started by shmbridge [no-parent]"
        ) from None
