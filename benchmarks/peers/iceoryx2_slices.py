"""iceoryx2's Python bindings: slices that are loaned, sent and received in place.

Unlike with the other peers, neither segment name nor loss are sent, which favours iceoryx2.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
from pathlib import Path
from typing import Any

import iceoryx2
import numpy as np

from ..leftovers import remove_shared_memory, temporary_folder
from .child import die_with_parent, pipe, run_module
from .peer import TIMEOUT, Array, Peer, PeerFailedError

# Not of floats: iceoryx2 0.10 confuses a slice's size in bytes with its length, so a view would be too long.
_BYTES = iceoryx2.Slice[ctypes.c_uint8]
_ALIGNMENT = 64
_REST = -1.0  # sent instead of a value: stop spinning until a byte comes through the pipe


class Iceoryx2(Peer):
    """Each end sleeps at an event until the other sends. The float is accessed through an array."""

    spinning = False
    arrays = True

    def _start(self) -> None:
        folder = self.resources.enter_context(temporary_folder())
        self.resources.callback(remove_shared_memory, _prefix(folder))
        wake_read, self._wake = self.resources.enter_context(pipe())
        self._ready, ready_write = self.resources.enter_context(pipe())
        shape = (self.work.rows, self.work.columns)
        self._end = _End(folder, shape, self.arrays, "posteriors", "error_signal")
        self.resources.callback(self._end.close)
        arguments = (folder, *shape, int(self.arrays), int(self.spinning), wake_read, ready_write)
        self.resources.enter_context(run_module(__name__, *arguments, descriptors=[wake_read, ready_write]))
        self._wait_until_ready()  # iceoryx2 drops messages that are sent before the other end is ready

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        self._end.send(value, ring=True)
        return self._end.receive_blocking()

    def _wait_until_ready(self) -> None:
        if not select.select([self._ready], [], [], TIMEOUT)[0]:
            raise PeerFailedError(f"iceoryx2's child was not ready within {TIMEOUT} seconds")
        os.read(self._ready, 1)


class Iceoryx2Spinning(Iceoryx2):
    """Each end spins until the other sends."""

    spinning = True

    def begin_block(self) -> None:
        """Make the child spin.

        This end sleeps until the child spins. If the kernel wakes the child on this core, the child would
        otherwise wait until this spinning end has used its time slice.
        """
        os.write(self._wake, b"!")
        self._wait_until_ready()

    def round_trip(self, value: float) -> float:
        """Exchange one segment."""
        self._end.send(value, ring=False)
        return self._end.receive_spinning()

    def end_block(self) -> None:
        """Make the child sleep."""
        self._end.send(_REST, ring=False)


class Iceoryx2Address(Iceoryx2Spinning):
    """The same without arrays: the cost of the bindings alone, not usable in practice."""

    arrays = False


class _End:
    """One end: publishes to one service and subscribes to another, each with its event.

    Args:
        folder: for iceoryx2's files.
        shape: (time,label) of the matrices.
        arrays: whether the float is accessed through an array over the slice, or by address.
        out: service to publish to.
        into: service to subscribe to.
    """

    def __init__(self, folder: str, shape: tuple[int, int], arrays: bool, out: str, into: str) -> None:
        iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)
        config = iceoryx2.config.default()
        config.global_cfg.root_path = iceoryx2.Path.new(folder)
        config.global_cfg.prefix = iceoryx2.FileName.new(_prefix(folder))
        node = (
            iceoryx2.NodeBuilder.new()
            .config(config)
            .signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
            .create(iceoryx2.ServiceType.Ipc)
        )
        outgoing, out_bell = _services(node, out)
        incoming, in_bell = _services(node, into)
        self._shape = shape
        self._arrays = arrays
        self._length = length = 4 * shape[0] * shape[1]
        self._publisher = outgoing.publisher_builder().initial_max_slice_len(length).create()
        self._notifier = out_bell.notifier_builder().create()
        self._subscriber = incoming.subscriber_builder().create()
        self._listener = in_bell.listener_builder().create()
        self._factories = [outgoing, out_bell, incoming, in_bell, node]

    def send(self, value: float, *, ring: bool) -> None:
        """Loan a slice, write the float, send the slice, and notify a sleeping receiver."""
        loan = self._publisher.loan_slice_uninit(self._length)
        if self._arrays:
            _array(loan, self._shape)[0, 0] = value
        else:
            ctypes.c_float.from_address(loan.payload_ptr).value = value
        loan.assume_init().send()
        if ring:
            self._notifier.notify()

    def receive_blocking(self) -> float:
        """Sleep until a slice arrives, and return its float."""
        while True:
            self._listener.blocking_wait()
            sample = self._subscriber.receive()
            if sample is not None:
                return self._read(sample)

    def receive_spinning(self) -> float:
        """Spin until a slice arrives, and return its float."""
        receive = self._subscriber.receive
        while True:
            sample = receive()
            if sample is not None:
                return self._read(sample)

    def _read(self, sample: Any) -> float:
        if self._arrays:
            value = float(_array(sample, self._shape)[0, 0])
        else:
            value = ctypes.c_float.from_address(sample.payload_ptr).value
        sample.delete()
        return value

    def close(self) -> None:
        """Remove everything that has a name."""
        for port in (self._listener, self._subscriber, self._notifier, self._publisher):
            port.delete()
        self._factories.clear()


def _services(node: Any, name: str) -> tuple[Any, Any]:
    """Open the slices and the event with this name."""
    slices = (
        node.service_builder(iceoryx2.ServiceName.new(name))
        .publish_subscribe(_BYTES)
        .payload_alignment(iceoryx2.Alignment.new(_ALIGNMENT))
        .open_or_create()
    )
    event = node.service_builder(iceoryx2.ServiceName.new(f"{name}_bell")).event().open_or_create()
    return slices, event


def _array(sample: Any, shape: tuple[int, int]) -> Array:
    """Return an array (time,label) over the slice."""
    return np.frombuffer(sample.payload().as_memory_view(), np.float32).reshape(shape)


def _prefix(folder: str) -> str:
    """Return the prefix of names in /dev/shm. It is unique, so that all of them can be removed."""
    return f"{Path(folder).name}_"


def _serve(folder: str, rows: int, columns: int, arrays: int, spinning: int, wake: int, ready: int) -> None:
    end = _End(folder, (rows, columns), bool(arrays), "error_signal", "posteriors")
    os.write(ready, b"!")
    if not spinning:
        while True:
            end.send(end.receive_blocking(), ring=True)
    while os.read(wake, 1):
        os.write(ready, b"!")
        while (value := end.receive_spinning()) != _REST:
            end.send(value, ring=False)


if __name__ == "__main__":
    die_with_parent()
    _serve(sys.argv[1], *map(int, sys.argv[2:]))
