"""Arguments, errors and exit codes of the command `shmbridge`."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Optional

from shmbridge import __version__
from shmbridge.errors import ShmbridgeError

from . import bench, demo, doctor, stats

__all__ = ["main"]

_EXIT_CODES = """exit codes:
  0    done
  1    an error, which is said on standard error
  2    the arguments are wrong
  3    doctor: a check has failed; stats: no such pool runs
  130  interrupted (Ctrl-C)
"""
_NO_RICH = """\
error: tables and bars need the package rich: pip install 'shmbridge[cli]'
(or use --json, which needs no rich)"""
_COMMANDS = {
    "demo": (demo, "train a little with two Sprint children, on files made up for it"),
    "bench": (bench, "measure the exchange on this machine"),
    "doctor": (doctor, "look for what could go wrong on this machine, and with a given nn-trainer"),
    "stats": (stats, "show the pools that run now, of this user"),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; sys.argv by default.

    Returns:
        The exit code, as `shmbridge --help` lists them.
    """
    options = _parser().parse_args(arguments)
    # So that children are ended then as well.
    signal.signal(signal.SIGTERM, _interrupt)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if not options.json and importlib.util.find_spec("rich") is None:
        print(_NO_RICH, file=sys.stderr)
        return 1
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read, such as `head`, has enough
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
    parser = argparse.ArgumentParser(
        prog="shmbridge",
        description="Posteriors to Sprint (RASR) and loss and error signal back, through shared memory.",
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
        )
        command.add_argument("--json", action="store_true", help="JSON on standard output, for programs")
        command.add_argument(
            "--verbose", action="store_true", help="log on standard error, with what Sprint says"
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _interrupt(_number: int, _frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
