"""The sdist and the wheel: both can be built and installed into an empty environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOT_SOURCES = (
    ".git",
    ".venv*",
    ".*_cache",
    ".hypothesis",
    "build",
    "dist",
    "*.egg-info",
    "*.so",
    "__pycache__",
)

# Starts a child of the installed package, and receives a loss.
TRY_IT = """
import sys, sysconfig, numpy as np, shmbridge, sprint_entry
assert not shmbridge.__file__.startswith(sys.argv[1]), shmbridge.__file__
refsprint = sysconfig.get_path("scripts") + "/refsprint"
options = ["--*.action=python-control", "--*.input-in-log-space=true",
           f"--*.corpus.file={sys.argv[2]}", f"--*.lexicon.file={sys.argv[3]}"]
with shmbridge.SprintSubprocessInstance(
    sprint_exec_path=refsprint, sprint_config=options, use_python_segment_order=False, ring_size=1 << 20
) as sprint:
    x = np.full((10, 1, 3), -np.log(3))
    loss, _ = sprint.get_batch_loss_and_error_signal(x, [10], ["c/r/s"])
    assert 0 < loss[0] < 20, loss
"""

CORPUS = """<corpus name="c"><recording name="r" audio="none.wav">
<segment name="s" start="0" end="1"><orth> a b </orth></segment></recording></corpus>"""
LEXICON = """<lexicon><phoneme-inventory><phoneme><symbol>A</symbol></phoneme>
<phoneme><symbol>B</symbol></phoneme><phoneme><symbol>blank</symbol><variation>none</variation></phoneme>
</phoneme-inventory><lemma><orth>a</orth><phon>A</phon></lemma><lemma><orth>b</orth><phon>B</phon></lemma>
<lemma special="blank"><orth>[blank]</orth><phon>blank</phon></lemma></lexicon>"""


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """An sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = "from setuptools import build_meta as b; import sys; b.build_sdist(sys.argv[1])"
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    run(sys.executable, "-c", build, folder, cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_the_wheel_installs_into_an_empty_environment_and_runs(kind, distributions, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", distributions[kind], cwd=tmp_path)
    (tmp_path / "corpus.xml").write_text(CORPUS)
    (tmp_path / "lexicon.xml").write_text(LEXICON)
    run(python, "-c", TRY_IT, ROOT, tmp_path / "corpus.xml", tmp_path / "lexicon.xml", cwd=tmp_path)


def test_the_wheel_has_stubs_entry_module_and_scripts(distributions):
    names = zipfile.ZipFile(distributions["wheel"]).namelist()
    assert "sprint_entry.py" in names
    assert "shmbridge/py.typed" in names
    assert "shmbridge/_native.pyi" in names
    assert any(name.endswith("entry_points.txt") for name in names)
    assert not any(name.startswith(("tests/", "examples/", "benchmarks/")) for name in names)


def test_the_sdist_has_all_files_that_the_c_part_needs(distributions):
    with tarfile.open(distributions["sdist"]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.[ch]")} <= names
    assert "csrc/build_native.py" in names
