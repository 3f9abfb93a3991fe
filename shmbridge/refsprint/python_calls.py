"""Calls into the user's Python module, and what happens when they fail.

RASR hands an exception that leaves such a call to the interpreter's standard handler, which prints it or,
for SystemExit, ends the process with its code; then it reports a critical error.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from .console import CriticalError

__all__ = ["call", "import_module", "report_exception"]


def import_module(path: str, name: str, purpose: str) -> ModuleType:
    """Import the module `name`, with `path`, if not empty, put in front of sys.path.

    Errors:
        CriticalError: there is no name, or the import failed; the exception is printed.
        SystemExit: from the module.
    """
    if not name:
        raise CriticalError(f"PYTHON ERROR: {purpose}: no module is named (option pymod-name) [python-error]")
    if path:
        sys.path.insert(0, path)
    try:
        return importlib.import_module(name)
    except SystemExit:
        raise
    except BaseException:
        report_exception()
        raise CriticalError(
            f"PYTHON ERROR: {purpose}: cannot import the module {name!r} [python-error]"
        ) from None


def call(owner: Any, method: str, /, **arguments: Any) -> Any:
    """Call ``owner.method(**arguments)`` and return what it returns.

    Errors:
        CriticalError: an exception left the call, or there is no such method; the exception is printed.
        SystemExit: from the call.
    """
    try:
        return getattr(owner, method)(**arguments)
    except SystemExit:
        raise
    except BaseException:
        report_exception()
        raise CriticalError(f"PYTHON ERROR: {method}() failed [python-error]") from None


def report_exception() -> None:
    """Print the exception that is being handled, as the interpreter would at top level."""
    sys.excepthook(*sys.exc_info())
