"""Start Sprint."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping

from ..errors import OptionError, ResourceError
from .options import Options

# By default, glibc returns Sprint's large matrices to the kernel after each segment, and the next segment
# pays for the pages again: CTC on 1000 x 12000 takes 0.34 s with these settings and 0.40 s without. Settings
# of the user's win.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


def spawn(command: list[str], options: Options, inherited: list[int], output: int) -> int:
    """Start Sprint with these descriptors inherited, and its output written to `output`. Return its pid.

    It leads a process group of its own. The caller waits for its end.

    Raises:
        OptionError: the executable cannot be executed, or the command line is too long.
        ResourceError: no process or memory is left.
    """
    environment = {**_MALLOC, **(os.environ if options.env is None else options.env)}
    try:
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
            # The terminal sends Ctrl-C to the trainer only, which ends its children itself.
            start_new_session=True,
            cwd=options.directory,
            env=environment,
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise _too_long(command, environment) from error
        if options.directory is not None and error.filename == options.directory:
            raise OptionError(
                f"the folder {error.filename!r}, in which the pool was created, cannot be entered: "
                f"{error.strerror}; restore it, because Sprint starts in it [executable]"
            ) from error
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
            raise OptionError(
                f"sprint_exec_path: cannot execute {command[0]!r}: {error.strerror} [executable]"
            ) from error
        raise ResourceError(
            f"cannot start {command[0]!r}: {error.strerror} (see `ulimit -a`) [descriptors-processes]"
        ) from error
    popen.returncode = 0  # or subprocess would wait for the process too
    return popen.pid


def _too_long(command: list[str], environment: Mapping[str, str]) -> OptionError:
    longest = max(command, key=len)
    variable = max(environment, key=lambda name: len(environment[name]), default="")
    words, values = sum(map(len, command)), sum(map(len, environment.values()))
    return OptionError(
        f"Sprint's command line has {words} characters ({len(longest)} in {longest[:40]!r}…), its "
        f"environment {values} (the longest in {variable!r}); the system cannot pass so much: put options "
        "into a file, and give --config=FILE in sprint_config [command-line]"
    )
