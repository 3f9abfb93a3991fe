"""Whether a given nn-trainer can do its part."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Optional

from shmbridge.errors import BridgeTimeoutError, OptionError, ShmbridgeError

from .checks import FAILED, OK, Check

__all__ = ["check_sprint"]

_CONTROL_LOOP = (
    "--*.action=python-control --*.python-control-loop-type=python-control-loop --*.extract-features=false"
)
_GRACE = 2.0  # seconds from the end of its output to the end of the process
_MOST = 1 << 20  # bytes of a report or of output
_SHOWN_LINES = 8  # of output


def check_sprint(path: str, config: str, timeout: float) -> Iterator[Check]:
    """Start it as the trainer would, and let it tell what it sees; then complete a hello.

    Args:
        path: of the executable, or a name on PATH.
        config: more options for it, as in sprint_config.
        timeout: seconds for each of the two.
    """
    from shmbridge.parent.options import Options

    config = f"{config} {_CONTROL_LOOP}"
    try:
        options = Options.parse({"sprint_exec_path": path, "sprint_config": config})
    except OptionError as error:
        yield Check(
            f"{path}: executable", FAILED, str(error), "name nn-trainer's path; chmod +x, if it is no program"
        )
        return
    command = options.command()
    report, how, output = _probe(command, timeout)
    if report is None:
        yield _no_report(path, how, output)
        return
    yield Check(
        f"{path}: starts",
        OK,
        f"{command[0]}, callback version {report.get('callback_version')}, {_found(report, 'sprint')}",
    )
    yield _python(path, report)
    yield _numpy(path, report)
    entry = _entry(path, report)
    yield entry
    if entry.status == FAILED:
        return
    yield _hello(path, config, timeout)


def _probe(command: list[str], timeout: float) -> tuple[Optional[dict[str, Any]], str, list[str]]:
    """Run it with sprint_probe. Returns the report, how the process ended, and its last output."""
    from shmbridge.parent.spawn import MODULE_PATH

    report_read, report_write = os.pipe()
    output_read, output_write = os.pipe()
    arguments = [
        "--*.python-control-enabled=true",
        f"--*.pymod-path={MODULE_PATH}",
        "--*.pymod-name=shmbridge.cli.sprint_probe",
        f"--*.pymod-config=report_fd:{report_write}",
    ]
    try:
        try:
            process = subprocess.Popen(
                [command[0], *arguments, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(report_write,),
                start_new_session=True,
            )
        except OSError as error:
            return None, f"cannot be executed: {error.strerror}", []
        finally:
            os.close(report_write)
            os.close(output_write)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Before it is waited for: a process that writes much ends only when it is read.
                data, text = _read_both(report_read, output_read, timeout)
                process.wait(_GRACE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    how = f"did not end within {timeout:g} s"
                else:
                    how = _ending(process.returncode)
            process.wait()
    finally:
        os.close(report_read)
        os.close(output_read)
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    try:
        report = json.loads(data)
    except ValueError:
        report = None
    return (report if isinstance(report, dict) else None), how, lines


def _read_both(report: int, output: int, timeout: float) -> tuple[bytes, bytes]:
    """What comes on both until their ends, or until so many seconds have passed."""
    parts: dict[int, bytearray] = {report: bytearray(), output: bytearray()}
    open_ends = set(parts)
    poll = select.poll()
    for descriptor in parts:
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + timeout
    while open_ends and (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1e3):
            data = os.read(descriptor, 1 << 16)
            if not data:
                poll.unregister(descriptor)
                open_ends.discard(descriptor)
            parts[descriptor] += data
            del parts[descriptor][:-_MOST]
    return bytes(parts[report]), bytes(parts[output])


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _no_report(path: str, how: str, output: list[str]) -> Check:
    text = "\n".join(output)
    if "error while loading shared libraries" in text:
        advice = "the dynamic linker misses a library (ldd says which): set LD_LIBRARY_PATH, or install it"
    elif "ModuleNotFoundError" in text or "ImportError" in text or "cannot import module" in text:
        advice = (
            "its Python cannot import shmbridge, or the same version of it: it has to be 3.9 or newer, "
            "and to find its standard library (PYTHONHOME) and its packages (PYTHONPATH)"
        )
    elif "numpy" in text.lower():
        advice = "its numpy is another than that with which it was built: see its output"
    elif "did not end" in how:
        advice = "it hangs, or takes longer: raise --timeout; run it by hand with --help"
    elif how == "exited with code 0":
        advice = (
            "it never called Python: it is no nn-trainer, or was built without Python (RASR's "
            "Modules.make: MODULE_PYTHON)"
        )
    else:
        advice = "see its output; run it by hand with --help"
    found = f"{how} before its Python has reported"
    if output:
        found += "; its last output:\n" + "\n".join(output[-_SHOWN_LINES:])
    return Check(f"{path}: starts", FAILED, found, advice)


def _found(report: dict[str, Any], name: str) -> str:
    part = report.get(name)
    return str(part.get("found") or part.get("error")) if isinstance(part, dict) else "unknown"


def _fails(report: dict[str, Any], name: str) -> bool:
    part = report.get(name)
    return not isinstance(part, dict) or "found" not in part


def _python(path: str, report: dict[str, Any]) -> Check:
    found = f"{report.get('python')}, prefix {report.get('prefix')}; here it is {platform.python_version()}"
    return Check(f"{path}: Python", OK, found)


def _numpy(path: str, report: dict[str, Any]) -> Check:
    if _fails(report, "numpy"):
        return Check(
            f"{path}: numpy",
            FAILED,
            _found(report, "numpy"),
            f"install numpy for Python {report.get('python')} (one with which this program was built: "
            "1.x where that was 1.x), and name its folder in PYTHONPATH",
        )
    return Check(f"{path}: numpy", OK, _found(report, "numpy"))


def _entry(path: str, report: dict[str, Any]) -> Check:
    if _fails(report, "sprint_entry"):
        return Check(
            f"{path}: sprint_entry",
            FAILED,
            _found(report, "sprint_entry"),
            f"install shmbridge for Python {report.get('python')} as well (with that Python, pip install "
            "--target=DIR shmbridge), and add to sprint_config (here: --sprint-config=…) "
            "--*.pymod-path=DIR --*.python-segment-order-pymod-path=DIR",
        )
    return Check(f"{path}: sprint_entry", OK, _found(report, "sprint_entry"))


def _hello(path: str, config: str, timeout: float) -> Check:
    from shmbridge.parent import SprintInstancePool

    name = f"{path}: hello"
    try:
        with SprintInstancePool(
            sprint_exec_path=path,
            sprint_config=config,
            use_python_segment_order=False,
            ring_size=1 << 16,
            start_timeout=timeout,
            exit_timeout=timeout,
        ) as pool:
            seconds = pool.stats().start_seconds
    except BridgeTimeoutError as error:
        return Check(name, FAILED, str(error), "raise --timeout, and see what it does meanwhile")
    except ShmbridgeError as error:
        return Check(name, FAILED, str(error), "see the last output; --verbose shows all that Sprint says")
    return Check(name, OK, f"completed {seconds:.2f} s after the start")
