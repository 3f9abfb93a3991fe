"""Runs the tests that need CUDA on a stand-in for it: `make test-cuda`. No device is used.

torch is its build with CUDA, unchanged; what is replaced is the library below it, libcudart. Streams, events,
pinned memory and copies are real in that a copy comes late, and whoever does not wait for it sees old bytes.
What kernels compute, torch computes on the CPU. Of speed this says nothing, nor of anything a driver does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RUNTIME = "libcudart.so.13"


def build(into: Path, include: Path) -> Path:
    """Build the stand-in for both libraries that torch asks for: one file, two names."""
    into.mkdir(parents=True, exist_ok=True)
    runtime = into / RUNTIME
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-std=c11", "-O1", "-g"]
    command += ["-Wall", "-Wextra", "-Werror", "-isystem", str(include), "-isystem", str(HERE / "runtime")]
    command += [*map(str, sorted((HERE / "runtime").glob("*.c"))), "-o", str(runtime), "-pthread"]
    command += [f"-Wl,-soname,{RUNTIME}", f"-Wl,--version-script={HERE / 'runtime' / 'symbols.map'}"]
    subprocess.run(command, check=True)
    driver = into / "libcuda.so.1"
    driver.unlink(missing_ok=True)
    driver.symlink_to(RUNTIME)
    return runtime


def main() -> int:
    """Build it, run pytest, and return its exit status."""
    import torch

    include = Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "include")
    if not str(torch.version.cuda).startswith("13.") or not include.is_dir():
        print(f"torch {torch.__version__} is no build with CUDA 13; install one for {sys.executable}")
        return 2
    runtime = build(ROOT / "build" / "cuda_standin", include)
    paths = [str(runtime.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        "LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path),
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    tests = [f"tests/bridge/test_torch_{name}.py" for name in ("cuda", "cuda_standin")]
    # By torch's profiler, which needs a device; test_torch_cuda_standin.py has its like.
    profiled = f"{tests[0]}::test_matrices_are_copied_straight_into_the_ring_and_out_of_it"
    options = ["-p", "cuda_kernels", "-m", "cuda", "--deselect", profiled]
    command = [sys.executable, "-m", "pytest", *options, *tests, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
