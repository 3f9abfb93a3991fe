"""Arguments, errors and exit codes of the command `shmbridge`."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Optional

from shmbridge import __version__
from shmbridge.errors import ShmbridgeError

from . import bench, demo, doctor, lattices, stats

__all__ = ["main"]

_EXIT_CODES = """exit codes:
  0    success
  1    error; the message is on standard error. lattices: a lattice has a problem
  2    invalid arguments
  3    doctor: a check failed; stats: no such pool is running
  130  interrupted (Ctrl-C)
"""
_NO_RICH = "error: this command needs the package rich; run pip install rich, or use --json"
_COMMANDS = {
    "demo": (demo, "train a small network with refsprint's CTC criterion on a synthetic corpus"),
    "bench": (bench, "measure the exchange on this machine"),
    "doctor": (doctor, "check this machine and, if given, a Sprint for problems"),
    "lattices": (lattices, "compare lattices with corpus and lexicon"),
    "stats": (stats, "show the running pools of this user"),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; sys.argv by default.

    Returns:
        The exit code, as `shmbridge --help` lists them.
    """
    options = _parser().parse_args(arguments)
    # A SIGTERM must also close the pool, which ends the children.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if options.needs_rich and not options.json and importlib.util.find_spec("rich") is None:
        print(_NO_RICH, file=sys.stderr)
        return 1
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` closed standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ShmbridgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"error: not enough memory: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON to standard output")
    common.add_argument(
        "--verbose", action="store_true", help="log to standard error, including Sprint's output"
    )
    parser = argparse.ArgumentParser(
        prog="shmbridge",
        description="Exchange posteriors and error signals with Sprint (RASR) through shared memory.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shmbridge {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, needs_rich=module in (demo, bench))
    return parser


if __name__ == "__main__":
    sys.exit(main())
