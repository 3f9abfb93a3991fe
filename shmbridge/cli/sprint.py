"""The doctor's checks of a Sprint, with a module in place of sprint_entry."""

from __future__ import annotations

import json
import os
import platform
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from shmbridge.errors import OptionError

from . import probe_task
from .checks import FAILED, OK, Check, check
from .criteria import Probed, check_criteria

if TYPE_CHECKING:
    from shmbridge.parent.command_line import CommandLine

__all__ = ["check_sprint"]

_GRACE = 2.0  # seconds from the end of its output to the end of the process
_MAX_OUTPUT = 1 << 20  # bytes
_SHOWN_LINES = 8  # of output


def check_sprint(path: str, config: str, timeout: float) -> Iterator[Check]:
    """Start the executable with sprint_probe, which reports what it can import, and then in pools.

    The configuration is that of probe_task, with the options of nn-trainer and of lattice-processor. The call
    to Python says which of them the program is.

    Args:
        path: of the executable, or a name on PATH.
        config: more options for it, as in sprint_config.
        timeout: seconds for each step.
    """
    from shmbridge.parent.command_line import CommandLine

    try:
        user = CommandLine.parse(path, config).options
    except OptionError as error:
        advice = "give the path of nn-trainer or lattice-processor; chmod +x makes a file executable"
        yield Check(f"{path}: executable", FAILED, str(error), advice)
        return
    with tempfile.TemporaryDirectory(prefix="shmbridge-doctor-") as folder:
        files = Path(folder)
        probe_task.write(files)
        yield from _check_in(files, path, list(user), timeout)


def _check_in(files: Path, path: str, user: list[str], timeout: float) -> Iterator[Check]:
    """Check an executable with the files of probe_task, and the user's own options."""
    from shmbridge.parent.command_line import CommandLine

    both = dict.fromkeys([*probe_task.options(files, "MMI"), *probe_task.options(files, "CTC")])
    command_line = CommandLine.parse(path, [*both, *user])
    report, how, output = _probe(command_line, timeout)
    if report is None:
        yield _no_report(path, how, output)
        return
    python = report.get("python")
    version = re.sub("<[^>]*>", "", _part(report, "sprint")[0]).strip()  # RASR writes XML
    starts = f"{command_line.command[0]}, callback version {report.get('callback_version')}, {version}"
    yield Check(f"{path}: starts", OK, starts)
    prefix = f"{python}, prefix {report.get('prefix')}; the trainer has {platform.python_version()}"
    yield Check(f"{path}: Python", OK, prefix)
    packages = {
        "numpy": f"install numpy for Python {python} (1.x if the program was built with 1.x), and add its "
        "folder to PYTHONPATH",
        "sprint_entry": f"install shmbridge for Python {python} too (with that Python, in the clone of "
        "shmbridge: pip install --target=DIR .), and add --*.pymod-path=DIR "
        "--*.python-segment-order-pymod-path=DIR to sprint_config (here: --sprint-config=…)",
    }
    for name, advice in packages.items():
        found, works = _part(report, name)
        yield check(f"{path}: {name}", works, found, advice)
    if works:
        probed = Probed(path, files, user, timeout, str(report.get("unit")), report.get("commands") or [])
        yield from check_criteria(probed)


def _probe(command_line: CommandLine, timeout: float) -> tuple[Optional[dict[str, Any]], str, list[str]]:
    """Run it with sprint_probe. Return the report, how the process ended, and its output lines."""
    from shmbridge.parent.command_line import control_options

    with tempfile.TemporaryFile() as report_file:
        config = f"report_fd:{report_file.fileno()}"
        arguments = control_options("shmbridge.cli.sprint_probe", config)
        try:
            process = subprocess.Popen(
                [*command_line.command, *arguments, *command_line.options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(report_file.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            return None, f"cannot be executed: {error.strerror}", []
        with process:
            try:
                # Read before waiting: a process that fills the pipe blocks until it is read.
                output = _read_output(process, timeout)
                how = _describe_exit(process.wait(_GRACE))
            except subprocess.TimeoutExpired:
                how = f"did not end within {timeout:g} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        report_file.seek(0)
        try:
            report = json.load(report_file)
        except ValueError:
            report = None
    return (report if isinstance(report, dict) else None), how, lines


def _read_output(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Return the last output of the process, once its output ends or the timeout expires."""
    output = bytearray()
    descriptor = process.stdout.fileno() if process.stdout is not None else -1
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        output += part
        del output[:-_MAX_OUTPUT]
    return bytes(output)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _no_report(path: str, how: str, output: list[str]) -> Check:
    text = "\n".join(output)
    if "error while loading shared libraries" in text:
        advice = "a shared library is missing (ldd lists it); install it, or set LD_LIBRARY_PATH"
    elif "ModuleNotFoundError" in text or "ImportError" in text or "cannot import module" in text:
        advice = (
            "its Python cannot import this version of shmbridge; it must be 3.9 or later, and find its "
            "standard library (PYTHONHOME) and its packages (PYTHONPATH)"
        )
    elif "numpy" in text.lower():
        advice = "its numpy may differ from the one it was built with; see its output"
    elif "did not end" in how:
        advice = "it hangs or needs longer; raise --timeout, or run it by hand with --help"
    elif how == "exited with code 0":
        advice = (
            "it never called Python; it is neither nn-trainer nor lattice-processor, or was built without "
            "Python (RASR's Modules.make: MODULE_PYTHON)"
        )
    else:
        advice = "see its output; run it by hand with --help"
    found = f"{how} before it reported"
    if output:
        found += "; its last output:\n" + "\n".join(output[-_SHOWN_LINES:])
    return Check(f"{path}: starts", FAILED, found, advice)


def _part(report: dict[str, Any], name: str) -> tuple[str, bool]:
    """Return what the report says about one item, and whether that item works."""
    part = report.get(name)
    if not isinstance(part, dict):
        return "unknown", False
    return str(part.get("found") or part.get("error")), "found" in part
