"""Builds the host with the C compiler, against the Python that runs this."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror")


class CannotBuildError(Exception):
    """There is no compiler, or no libpython: not a fault of the host."""


def libpython() -> list[str]:
    """What to link with: the shared libpython, else the static one.

    Raises:
        CannotBuildError: this Python came without either.
    """
    get = sysconfig.get_config_var
    folders = [Path(folder) for folder in (get("LIBDIR"), get("LIBPL")) if folder]
    name = f"python{get('LDVERSION')}"
    for folder in folders:
        if (folder / f"lib{name}.so").exists():
            return [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-l{name}"]
    for folder in folders:
        static = folder / f"lib{name}.a"
        if static.exists():
            words = " ".join(get(key) or "" for key in ("LINKFORSHARED", "LIBS", "SYSLIBS"))
            return [str(static), *shlex.split(words)]
    raise CannotBuildError(f"no lib{name}.so or .a in {[str(folder) for folder in folders]}")


@functools.cache
def build(folder: Path) -> Path:
    """Build the host in a folder; returns the executable.

    Raises:
        CannotBuildError: there is no compiler, libpython or Python.h.
        AssertionError: it does not compile.
    """
    if COMPILER is None:
        raise CannotBuildError("there is no C compiler")
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        raise CannotBuildError(f"no Python.h in {include}")
    program = folder / "host"
    command = [*shlex.split(COMPILER), *FLAGS, "-isystem", include, "-isystem", np.get_include()]
    command += ["-o", str(program), *map(str, sorted(HERE.glob("*.c"))), *libpython(), "-lm", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def python_path() -> str:
    """PYTHONPATH of a Python that is embedded: it knows nothing of a virtual environment."""
    paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return os.pathsep.join(paths)


def python_home() -> str:
    """PYTHONHOME of a Python that is embedded: where its standard library lies."""
    return f"{sys.base_prefix}:{sys.base_exec_prefix}"
