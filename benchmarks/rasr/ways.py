"""All ways, each in a module that is imported when it is to run: one that is not installed is a result."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from .way import Way

__all__ = ["ALONE", "BRIDGE", "WAYS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A way that may or may not be able to run.

    Attributes:
        name: in JSON and on the command line.
        title: what readers see.
        ours: whether it is an error if it cannot run; else that is reported.
        module: where the class is, in this package.
        class_name: the Way.
    """

    name: str
    title: str
    ours: bool
    module: str
    class_name: str

    def load(self) -> type[Way]:
        """The Way class.

        Raises:
            ImportError: a package is not installed, or does not work here.
        """
        way: type[Way] = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.class_name)
        return way


BRIDGE = Entry("bridge", "shmbridge, control loop", True, "bridge", "Bridge")
ALONE = Entry("alone", "no parent", True, "alone", "Alone")

# Neighbours take turns one after the other: the first two are those that the target is about.
WAYS = (
    BRIDGE,
    ALONE,
    Entry("bridge_trainer", "shmbridge, Python layer", True, "bridge", "BridgeTrainer"),
    Entry("returnn_pipe", "RETURNN, pipe + pickle", False, "returnn_ways", "ReturnnPipe"),
    Entry("returnn_shared_memory", "RETURNN, shared memory", False, "returnn_ways", "ReturnnSharedMemory"),
)
