"""Remove files that killed runs left in /tmp and /dev/shm; their names contain the pid of the run."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory
_NAME = re.compile(r"shmbridge-bench-(\d+)-")


def name_of_run() -> str:
    """Return the prefix of all names of this run."""
    return f"shmbridge-bench-{os.getpid()}-"


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Create a folder with a name of this run, which is also the prefix of its names in /dev/shm."""
    return tempfile.TemporaryDirectory(prefix=name_of_run())


def remove_shared_memory(prefix: str) -> None:
    """Remove everything in /dev/shm whose name has the prefix."""
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def sweep() -> None:
    """Remove the files of runs that no longer exist."""
    for path in [*Path(tempfile.gettempdir()).iterdir(), *_SHARED_MEMORY.iterdir()]:
        name = _NAME.match(path.name)
        if name is None or Path(f"/proc/{name[1]}").exists():
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
