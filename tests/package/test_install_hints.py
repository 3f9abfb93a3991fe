"""Each `pip install` in the pages and messages works as written, in a clone of the repository."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
_HINT = re.compile(r"pip install((?: +(?:'[^']+'|[\w.=<>~/-]+))+)")
# Not of ours, and on the package index.
PACKAGES = {"rich", "torch", "returnn", "dm-tree", "py-spy"}


def extras() -> dict[str, str]:
    """Return the text of each extra in pyproject.toml."""
    section = re.split(r"^\[", PYPROJECT.split("[project.optional-dependencies]")[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^([\w-]+) = \[(.*?)\](?: #[^\n]*)?$", section, flags=re.MULTILINE | re.DOTALL))


def hints() -> Iterator[tuple[str, str]]:
    """Yield the place and the arguments of each `pip install`."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in ("shmbridge", "examples", "benchmarks"):
        paths += (ROOT / folder).rglob("*.py")
    for path in sorted(paths):
        for match in _HINT.finditer(path.read_text("utf-8")):
            yield str(path.relative_to(ROOT)), match[1].strip()


def problems(arguments: str) -> list[str]:
    """Return the arguments that pip would not find."""
    found = []
    for word in shlex.split(arguments):
        extra = re.fullmatch(r"\.\[([\w,-]+)\]", word)
        known = word == "." or word.startswith("-") or word in PACKAGES
        if not (known or (extra and set(extra[1].split(",")) <= extras().keys())):
            found.append(word)
    return found


@pytest.mark.parametrize(("place", "arguments"), sorted(set(hints())))
def test_the_hint_names_the_clone_or_a_package_of_the_index(place, arguments):
    assert not problems(arguments)


def test_the_collector_of_hints_finds_them():
    found = {place for place, _ in hints()}
    assert found >= {"docs/cli.md", "docs/torch.md", "docs/returnn.md", "docs/troubleshooting.md"}
    assert found >= {f"shmbridge/cli/{name}.py" for name in ("__main__", "machine", "sprint")}
    assert found >= {"shmbridge/torch/__init__.py", "shmbridge/returnn/patch.py"}
    assert problems("'shmbridge[cli]'") == ["shmbridge[cli]"]
    assert problems("--target=DIR shmbridge") == ["shmbridge"]
    assert problems("'.[nothing]'") == [".[nothing]"]
    assert not problems("-e '.[demo]'")


def test_the_extra_returnn_has_what_returnn_imports_at_its_start():
    assert "dm-tree" in extras()["returnn"]
