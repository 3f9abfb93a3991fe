"""Compose Sprint's command line, and start it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .. import config as config_strings
from ..errors import OptionError, ResourceError
from .options import Options

# By default, glibc returns Sprint's large matrices to the kernel after each segment, and the next segment
# pays for the pages again: CTC on 1000 x 12000 takes 0.34 s with these settings and 0.40 s without. Settings
# of the user's win.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
# The directory of sprint_entry.py, both in a checkout and installed.
MODULE_PATH = Path(__file__).resolve().parents[2]
_MODULE_NAME = "sprint_entry"


def sprint_command(options: Options, config: Mapping[str, object]) -> list[str]:
    """Return Sprint's command line. The user's options come last, so that they win."""
    head, *rest = options.command()
    pymod_config = config_strings.compose(config)
    module = [
        f"--*.pymod-path={MODULE_PATH}",
        f"--*.pymod-name={_MODULE_NAME}",
        f"--*.pymod-config={pymod_config}",
    ]
    order = [
        "--*.python-segment-order=true",
        f"--*.python-segment-order-pymod-path={MODULE_PATH}",
        f"--*.python-segment-order-pymod-name={_MODULE_NAME}",
        f"--*.python-segment-order-config={pymod_config}",
        "--*.python-segment-order-allow-copy=false",
    ]
    leading = options.leading_arguments
    arguments = [
        "--*.python-control-enabled=true",
        *module,
        *(order if options.use_python_segment_order else []),
    ]
    return [head, *rest[:leading], *arguments, *rest[leading:]]


def spawn(command: list[str], options: Options, inherited: list[int], output: int) -> int:
    """Start Sprint with these descriptors inherited, and its output written to `output`. Return its pid.

    It leads a process group of its own. The caller waits for its end.

    Raises:
        OptionError: the executable cannot be executed.
        ResourceError: no process or memory is left.
    """
    try:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            # The terminal sends Ctrl-C to the trainer only, which ends its children itself.
            start_new_session=True,
            env={**_MALLOC, **(os.environ if options.env is None else options.env)},
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
            raise OptionError(
                f"sprint_exec_path: cannot execute {command[0]!r}: {error.strerror} [executable]"
            ) from error
        raise ResourceError(
            f"cannot start {command[0]!r}: {error.strerror} (see `ulimit -a`) [descriptors-processes]"
        ) from error
    popen.returncode = 0  # or subprocess would wait for the process too
    return popen.pid
