"""shmbridge: posteriors to Sprint (RASR) and loss and error signal back, through shared memory.

The trainer uses SprintInstancePool (or SprintSubprocessInstance, for one child); all errors are under
ShmbridgeError. Sprint imports sprint_entry, which takes shmbridge.child and nothing of the trainer's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403 - the list is errors.__all__

if TYPE_CHECKING:
    from .parent import SprintInstancePool, SprintSubprocessInstance

__version__ = "0.1.0"
__all__ = [*errors.__all__, "SprintInstancePool", "SprintSubprocessInstance"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import the trainer's side when it is first asked for: Sprint's side does without it."""
    if name in ("SprintInstancePool", "SprintSubprocessInstance"):
        from . import parent

        return getattr(parent, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r} [attribute]")
