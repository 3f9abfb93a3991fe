"""All ways, each in a module that is imported when it is to run: one that is not installed is a result."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from .way import Way

__all__ = ["ALONE", "ALONE_TRAINER", "BRIDGE", "WAYS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A way that may or may not be able to run.

    Attributes:
        name: in JSON and on the command line.
        title: what readers see.
        ours: whether it is an error if it cannot run; else that is reported.
        module: where the class is, in this package.
        class_name: the Way.
        alone: the name of the way with no parent that drives Sprint in the same manner.
    """

    name: str
    title: str
    ours: bool
    module: str
    class_name: str
    alone: str

    def load(self) -> type[Way]:
        """The Way class.

        Raises:
            ImportError: a package is not installed, or does not work here.
        """
        way: type[Way] = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.class_name)
        return way


BRIDGE = Entry("bridge", "shmbridge, control loop", True, "bridge", "Bridge", "alone")
ALONE = Entry("alone", "no parent, control loop", True, "alone", "Alone", "alone")
ALONE_TRAINER = Entry(
    "alone_trainer", "no parent, Python layer", True, "alone", "AloneTrainer", "alone_trainer"
)

# Neighbours take turns one after the other: the first two are those that the target is about.
WAYS = (
    BRIDGE,
    ALONE,
    Entry("bridge_trainer", "shmbridge, Python layer", True, "bridge", "BridgeTrainer", "alone_trainer"),
    ALONE_TRAINER,
    Entry("returnn_pipe", "RETURNN, pipe + pickle", False, "returnn_ways", "ReturnnPipe", "alone_trainer"),
    Entry(
        "returnn_shared_memory",
        "RETURNN, shared memory",
        False,
        "returnn_ways",
        "ReturnnSharedMemory",
        "alone_trainer",
    ),
)
