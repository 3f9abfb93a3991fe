"""Run the tests on every Python that is installed, with the lowest and the highest numpy for it.

`make test-all` calls this. Each combination has a virtual environment of its own in .venvs/.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The oldest numpy that is both at least ours (1.24) and published for that Python.
LOWEST_NUMPY = {"3.9": "1.24.0", "3.10": "1.24.0", "3.11": "1.24.0", "3.12": "1.26.0", "3.13": "2.1.0"}


def find_python(version: str) -> str | None:
    """Return an interpreter of this version that runs, from the PATH or from pyenv."""
    home = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    candidates = [shutil.which(f"python{version}"), *glob.glob(f"{home}/versions/{version}.*/bin/python3")]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    return None


def run(python: str, version: str, numpy: str, arguments: list[str]) -> bool:
    """Set up one environment and run the tests in it."""
    name = f"{version}-numpy-{numpy or 'highest'}"
    print(f"=== Python {name}", flush=True)
    venv = ROOT / ".venvs" / name
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    commands = [
        [python, "-m", "venv", str(venv)],
        # Not editable: each environment gets a build of its own for its Python.
        [*pip, "--upgrade", *([f"numpy=={numpy}"] if numpy else ["numpy"]), f"{ROOT}[test-full]"],
        [
            str(venv / "bin" / "pytest"),
            *("-c", str(ROOT / "pyproject.toml"), str(ROOT / "tests")),
            f"--ignore={ROOT / 'tests' / 'benchmarks'}",  # they have an environment of their own
            *arguments,
        ],
    ]
    venv.mkdir(parents=True, exist_ok=True)
    # Not in the checkout: its shmbridge/ would take precedence over the installed one.
    return all(subprocess.run(command, cwd=venv, check=False).returncode == 0 for command in commands)


def main(arguments: list[str]) -> int:
    """Run all, and print which were missing and which failed."""
    failed = []
    for version, lowest in LOWEST_NUMPY.items():
        python = find_python(version)
        if python is None:
            print(f"=== Python {version}: not installed", flush=True)
            continue
        failed += [
            f"{version} with numpy {numpy or 'highest'}"
            for numpy in (lowest, "")
            if not run(python, version, numpy, arguments)
        ]
    print("failed: " + ", ".join(failed) if failed else "all passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
