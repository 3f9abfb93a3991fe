"""A program of the stand-in, from its start to its exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Optional

from shmbridge.errors import FileFormatError, OptionError

from . import console

__all__ = ["run_program"]


def run_program(arguments: Optional[Sequence[str]], usage: str, run: Callable[[Sequence[str]], None]) -> int:
    """Run a program as RASR does.

    Args:
        arguments: the command line without the program's name; None: that of this process, whose signals are
            then handled as Sprint does.
        usage: printed for --help.
        run: the program.

    Returns:
        The exit code: 0, or 1 after an error, which was printed.

    Raises:
        SystemExit: the user's module raised it.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        _behave_as_embedded()
    if "--help" in arguments:
        sys.stdout.write(usage)
        return 0
    try:
        run(arguments)
    except console.FailedAssertionError as failure:
        console.abort(str(failure))
    except (console.CriticalError, FileFormatError, OptionError) as error:
        console.report("critical-error", f"{error} [refsprint-exit]")
        console.log("exiting...")
        return 1
    console.log("done")
    return 0


def _behave_as_embedded() -> None:
    # Sprint embeds Python without its signal handlers: Ctrl-C and a write to a closed pipe end the process
    # instead of raising KeyboardInterrupt and BrokenPipeError. (In Sprint, Ctrl-C raises after the user's
    # code has imported the module signal. refsprint does not model this.)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
