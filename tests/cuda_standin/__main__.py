"""Run the tests that need CUDA, without a device: `make test-cuda`.

torch's build with CUDA runs unchanged on a stand-in for the library below it, libcudart. The stand-in delays
copies and kernels, so that a missing synchronization shows as old bytes. torch computes the kernels' results
on the CPU. The tests cover neither speed nor a driver's behaviour.
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
    """Build one library that stands in for both that torch loads, under two names."""
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
    """Build the stand-in, run pytest on it, and return the exit status."""
    import torch

    include = Path(sysconfig.get_path("purelib"), "nvidia", "cu13", "include")
    if not str(torch.version.cuda).startswith("13.") or not include.is_dir():
        print(f"torch {torch.__version__} is not a build with CUDA 13; install one for {sys.executable}")
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
    # torch's profiler needs a device. test_torch_cuda_standin.py counts copies instead.
    profiled = f"{tests[0]}::test_matrices_are_copied_directly_between_device_and_ring"
    options = ["-p", "cuda_kernels", "-m", "cuda", "--deselect", profiled]
    command = [sys.executable, "-m", "pytest", *options, *tests, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
