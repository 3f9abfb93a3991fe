"""Calls into the user's Python module.

If a call raises, RASR passes the exception to the interpreter's standard handler, which prints it or, for
SystemExit, ends the process with its code. Then RASR reports a critical error.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .configuration import Configuration
from .console import CriticalError

__all__ = ["call", "import_module", "reporting_exceptions"]


def import_module(config: Configuration, purpose: str, prefix: str = "") -> ModuleType:
    """Import the module that ``pymod-name`` names; ``pymod-path`` is the first entry of sys.path.

    Args:
        config: the options of the component.
        purpose: the user of the module, for messages.
        prefix: a prefix of the two options' names.

    Raises:
        CriticalError: the module is not named, or cannot be imported; the exception was printed.
        SystemExit: the module raised it.
    """
    path, name = config.string(f"{prefix}pymod-path"), config.string(f"{prefix}pymod-name")
    if not name:
        raise CriticalError(f"PYTHON ERROR: {purpose}: {prefix}pymod-name is not set [python-error]")
    if path:
        sys.path.insert(0, path)
    with reporting_exceptions(f"{purpose}: cannot import the module {name!r}"):
        return importlib.import_module(name)


def call(owner: Any, method: str, /, **arguments: Any) -> Any:
    """Call ``owner.method(**arguments)`` and return its result.

    Raises:
        CriticalError: the call raised, or there is no such method; the exception was printed.
        SystemExit: the call raised it.
    """
    with reporting_exceptions(f"{method}() failed"):
        return getattr(owner, method)(**arguments)


@contextlib.contextmanager
def reporting_exceptions(problem: str) -> Iterator[None]:
    """Print an exception, unless it is SystemExit, and raise a CriticalError instead."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise CriticalError(f"PYTHON ERROR: {problem} [python-error]") from None
