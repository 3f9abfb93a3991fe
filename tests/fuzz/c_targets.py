"""Build the fuzz targets in C, and find a clang with libFuzzer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "fuzz"
CSRC = ROOT / "csrc"

# The sources of each C target in addition to fuzz_NAME.c. fuzz_ring.c includes those that it hooks into.
C_TARGETS = {"ring": [], "copy": [CSRC / "copy.c"]}
C_FLAGS = [
    *("-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-I", str(CSRC)),
    *("-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
]
# Debian's clang with libFuzzer, without packages of the base system. All have the same release.
PACKAGES = ["clang-{0}", "libclang-rt-{0}-dev", "libclang-common-{0}-dev", "libclang1-{0}", "libclang-cpp{0}"]
PACKAGES += ["libllvm{0}"]
RELEASES = (19, 16, 14)

INSTALL = (
    "the C targets need clang with libFuzzer: install the packages clang and libclang-rt-dev (Debian, "
    "Ubuntu) or compiler-rt (Fedora), or name such a clang in the variable CLANG"
)


def build_c_target(
    name: str,
    compiler: list[str],
    flags: list[str],
    target: Path,
    *more: Path,
    environment: dict[str, str] | None = None,
) -> None:
    """Compile a C target. `flags` choose the sanitizers; `more` are sources of a main(), if one is needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = [HERE / f"fuzz_{name}.c", *more, *C_TARGETS[name]]
    command = [*compiler, *C_FLAGS, *flags, "-o", target, *sources, "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")


def has_libfuzzer(clang: list[str], environment: dict[str, str]) -> bool:
    """Return whether this clang can build a fuzzer that runs."""
    BUILD.mkdir(parents=True, exist_ok=True)
    probe = BUILD / "probe"
    source = "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *data, size_t size);\n"
    source += (
        "int LLVMFuzzerTestOneInput(const char *data, size_t size) { return data && size > 9 ? 0 : 0; }\n"
    )
    command = [*clang, "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", str(probe)]
    try:
        subprocess.run(command, input=source, text=True, capture_output=True, check=True, env=environment)
        subprocess.run([probe, "-runs=1"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def find_clang() -> tuple[list[str], dict[str, str]]:
    """Return a clang with libFuzzer, from CLANG, the PATH or Debian, and its environment."""
    environment = dict(os.environ)
    if "CLANG" in os.environ:
        candidates = [os.environ["CLANG"]]
    else:
        candidates = ["clang", *(f"clang-{release}" for release in range(22, 10, -1))]
    for candidate in candidates:
        if shutil.which(candidate) and has_libfuzzer([candidate], environment):
            return [candidate], environment
    if "CLANG" not in os.environ and shutil.which("apt-get") and shutil.which("dpkg"):
        for release in RELEASES:
            root = BUILD / f"clang-{release}"
            libraries = [root / f"usr/lib/llvm-{release}/lib", root / "usr/lib/x86_64-linux-gnu"]
            local = {**environment, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
            clang = [str(root / f"usr/lib/llvm-{release}/bin/clang")]
            if (root.exists() or unpack_clang(release, root)) and has_libfuzzer(clang, local):
                return clang, local
    raise SystemExit(INSTALL)


def unpack_clang(release: int, root: Path) -> bool:
    """Fetch Debian's packages and unpack them below `root`. Returns False if they cannot be fetched."""
    downloads = BUILD / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    names = [package.format(release) for package in PACKAGES]
    print(f"found no clang with libFuzzer; fetching {', '.join(names)} into {root}", flush=True)
    fetched = subprocess.run(
        ["apt-get", "download", *names],  # noqa: S607
        cwd=downloads,
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode != 0:
        print(fetched.stderr.strip(), flush=True)
        return False
    for package in sorted(downloads.glob(f"*{release}*.deb")):
        subprocess.run(["dpkg", "-x", package, root], check=True)  # noqa: S607
    return True
