"""Build the host with the C compiler, against the running Python."""

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
    """There is no compiler or no libpython. The host itself is not at fault."""


def libpython() -> list[str]:
    """Return the linker options for the shared libpython, or for the static one if there is no shared one.

    Raises:
        CannotBuildError: this Python has neither.
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
    """Build the host in a folder and return the executable.

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
    """Return the PYTHONPATH for an embedded Python, which does not use the virtual environment."""
    paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return os.pathsep.join(paths)


def python_home() -> str:
    """Return the PYTHONHOME for an embedded Python: the place of its standard library."""
    return f"{sys.base_prefix}:{sys.base_exec_prefix}"
