"""Create the shared memory of a child, start Sprint on it, and send the parent's hello."""

from __future__ import annotations

import os

from .. import protocol
from .._native import lib
from ..channel import Channel
from ..doorbell import Doorbell
from ..memory import Geometry, Memory, create_shared_memory
from . import fork_safety
from .options import Options
from .process import SprintProcess
from .watcher import Watcher

__all__ = ["launch"]


def launch(options: Options, watcher: Watcher) -> tuple[Channel, SprintProcess]:
    """Start a Sprint process; return its channel and the process.

    Raises:
        OptionError: the executable cannot be executed.
        ResourceError: no memory, process or descriptor is left.
    """
    geometry = Geometry.for_ring_size(options.ring_size)
    with fork_safety.fork_blocked():
        shm_fd = create_shared_memory(geometry.total_size)
        try:
            memory = Memory(shm_fd, geometry.total_size)
            channel = Channel.of_parent(
                memory, geometry, own=watcher.doorbell, peer=Doorbell(memory, create=True)
            )
            process = SprintProcess(options, watcher, shm_fd)
        finally:
            os.close(shm_fd)
    try:
        process.send(
            "hello",
            protocol=protocol.PROTOCOL_VERSION,
            abi=lib.SHMB_ABI,
            posteriors_size=geometry.posteriors_size,
            error_signals_size=geometry.error_signals_size,
        )
        return channel, process
    except BaseException:  # Ctrl-C: nothing owns the process yet
        process.kill()
        process.close(0)
        raise
