"""All ways. Each is imported only before it runs, so that a missing package is a result, not an error."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from .way import Way

__all__ = ["ALONE", "ALONE_TRAINER", "BRIDGE", "WAYS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A way that may be unable to run.

    Attributes:
        name: in JSON and on the command line.
        title: in tables and pictures.
        ours: whether a failure ends the run; if not, it is reported.
        module: of the class, in this package.
        class_name: of the Way.
        alone: name of the way without a parent that drives Sprint in the same manner.
    """

    name: str
    title: str
    ours: bool
    module: str
    class_name: str
    alone: str

    def load(self) -> type[Way]:
        """Import the Way class.

        Raises:
            ImportError: a package is missing or does not work.
        """
        way: type[Way] = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.class_name)
        return way


BRIDGE = Entry("bridge", "shmbridge, control loop", True, "bridge", "Bridge", "alone")
ALONE = Entry("alone", "no parent, control loop", True, "alone", "Alone", "alone")
ALONE_TRAINER = Entry(
    "alone_trainer", "no parent, Python layer", True, "alone", "AloneTrainer", "alone_trainer"
)

# Neighbours take consecutive turns. The target compares the first two.
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
