"""Logging from the watcher's thread, which has to go on whatever the user's handlers do."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

__all__ = ["handlers_contained"]


@contextlib.contextmanager
def handlers_contained() -> Iterator[None]:
    """Log within it: what a handler or filter raises is written to standard error instead."""
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):  # standard error may be closed
            traceback.print_exc()
