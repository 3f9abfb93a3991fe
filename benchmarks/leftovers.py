"""Names in /tmp and /dev/shm: all of a run begin with its pid, so that what a killed run left can be told."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the kernel has it
_NAME = re.compile(r"shmbridge-bench-(\d+)-")


def name_of_run() -> str:
    """What names of this run begin with."""
    return f"shmbridge-bench-{os.getpid()}-"


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder with a name of this run; names in /dev/shm that begin with the folder's are its as well."""
    return tempfile.TemporaryDirectory(prefix=name_of_run())


def remove_shared_memory(prefix: str) -> None:
    """Remove everything in /dev/shm whose name begins so."""
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def sweep() -> None:
    """Remove what runs have left that were killed before they could."""
    for path in [*Path(tempfile.gettempdir()).iterdir(), *_SHARED_MEMORY.iterdir()]:
        name = _NAME.match(path.name)
        if name is None or Path(f"/proc/{name[1]}").exists():
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
