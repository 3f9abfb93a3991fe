"""The peers: ways to do an exchange, one module each.

Each is imported only before it runs, so that a missing package is a result, not an error.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from .peer import Peer, PeerFailedError, Work

__all__ = ["ENTRIES", "OURS", "Entry", "Peer", "PeerFailedError", "Work"]


@dataclass(frozen=True)
class Entry:
    """A peer that may be unable to run.

    Attributes:
        name: in JSON and on the command line.
        title: in tables and pictures.
        kind: "ours", "peer" or "floor".
        in_place: whether the matrices stay in shared memory; if not, arrays are copied.
        module: of the class, relative to benchmarks.
        class_name: of the Peer.
    """

    name: str
    title: str
    kind: str
    in_place: bool
    module: str
    class_name: str

    def load(self) -> type[Peer]:
        """Import the Peer class.

        Raises:
            ImportError: a package is missing or does not work.
        """
        module = importlib.import_module(f"benchmarks.{self.module}")
        peer: type[Peer] = getattr(module, self.class_name)
        return peer


def _entry(name: str, title: str, kind: str, in_place: bool, place: str) -> Entry:
    module, _, class_name = place.partition(":")
    return Entry(name, title, kind, in_place, module, class_name)


ENTRIES = (
    _entry("in_place", "shmbridge, in place", "ours", True, "peers.shmbridge_in_place:InPlace"),
    _entry("batch_out", "shmbridge, get_batch… with out=", "ours", False, "peers.shmbridge_batch:BatchOut"),
    _entry("batch", "shmbridge, get_batch…", "ours", False, "peers.shmbridge_batch:Batch"),
    _entry("returnn_pipe", "RETURNN, pipe + pickle", "peer", False, "peers.returnn_pool:ReturnnPipe"),
    _entry(
        "returnn_shared_memory",
        "RETURNN, its shared memory",
        "peer",
        False,
        "peers.returnn_pool:ReturnnSharedMemory",
    ),
    _entry("raw_pipe", "raw frames over pipes", "peer", False, "peers.raw_pipe:RawPipe"),
    _entry(
        "queue_shared_memory",
        "multiprocessing, queue + shared_memory",
        "peer",
        False,
        "peers.queue_shared_memory:QueueSharedMemory",
    ),
    _entry("zeromq", "pyzmq, ipc, copy=False", "peer", False, "peers.zeromq:ZeroMq"),
    _entry("iceoryx2", "iceoryx2, blocking", "peer", True, "peers.iceoryx2_slices:Iceoryx2"),
    _entry("iceoryx2_spinning", "iceoryx2, spinning", "peer", True, "peers.iceoryx2_slices:Iceoryx2Spinning"),
    _entry(
        "iceoryx2_address",
        "iceoryx2, spinning, no arrays",
        "peer",
        True,
        "peers.iceoryx2_slices:Iceoryx2Address",
    ),
    _entry("copy", "one np.copyto, warm", "floor", False, "floors:Copy"),
    _entry("semaphore", "semaphore ping-pong, blocking", "floor", True, "floors:SemaphorePing"),
    _entry(
        "semaphore_spinning", "semaphore ping-pong, spinning", "floor", True, "floors:SemaphorePingSpinning"
    ),
    _entry("pipe_64", "64-byte pipe ping-pong", "floor", True, "floors:PipePing"),
)
OURS = tuple(entry for entry in ENTRIES if entry.kind == "ours")
