"""Report the phrases that CONTRIBUTING.md bans, as "file:line: phrase ==> better". `make check` runs it.

The single words are in words.txt, which codespell reads.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# A blank in a pattern also matches a line end, with the comment sign of the next line.
BANNED = {
    r"\bin vain\b": "say what cannot happen",
    r"\b(?:let|lets|letting) go of\b": "release, delete, drop the reference",
    r"\bfor ever\b": "forever, without limit",
    r"\bat the most\b": "at most",
    r"\bin the midst of\b": "during, within",
    r"\bof late\b": "recently",
    r"\bso many\b": "that number, a number of",
    r"\bonce more\b": "again",
    r"\b(?:has|have|had) to be\b": "must be",
    r"\bwants\b": "needs, must",
    r"(?<!here) (?:is|are|was|were) no (?!longer\b|more\b|less\b|\w+er than\b)\w+": "is not a …",
    r"(?<![\w`\"'|])Else\b(?![`\"'])": "Otherwise",
    r"(?:^|[.;:]) Where (?:it|that|this|there|they|nobody|Sprint|RASR|a|an|the \w+)\b(?![^.\n]*\?)": "If",
    r"(?:^|[.;:]) (?:Who|Whoever)\b(?![^.]*\?)": "a noun as the subject",
}
_BLANK = r"(?:[ \t]*\n[ \t]*(?:#|\*|//|>)?[ \t]*|[ \t]+)"
_PATTERNS = [(re.compile(pattern.replace(" ", _BLANK)), better) for pattern, better in BANNED.items()]

_SUFFIXES = {".py", ".pyi", ".c", ".h", ".md", ".toml", ".yml", ".pml"}
_ROOTS = ("shmbridge", "csrc", "docs", "tests", "benchmarks", "examples")


def files(root: Path) -> Iterator[Path]:
    """The files with prose: sources and pages, and those at the root of the repository."""
    found = [path for path in root.iterdir() if path.suffix in _SUFFIXES or path.name == "Makefile"]
    for folder in _ROOTS:
        found += [path for path in (root / folder).rglob("*") if path.suffix in _SUFFIXES]
    yield from sorted(path for path in found if path.name not in ("prose.py", "test_prose.py"))


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, phrase, better phrase) for each banned phrase of a text."""
    for pattern, better in _PATTERNS:
        for match in pattern.finditer(text):
            phrase = re.sub(_BLANK, " ", match[0]).strip(".;: ")
            yield text.count("\n", 0, match.start()) + 1, phrase, better


def report(paths: Iterable[Path], root: Path) -> list[str]:
    """Return the findings of all files as lines of text."""
    return [
        f"{path.relative_to(root)}:{line}: {phrase} ==> {better}"
        for path in paths
        for line, phrase, better in sorted(findings(path.read_text("utf-8")))
    ]


def main() -> int:
    """Print all findings; return 1 if there are any."""
    root = Path(__file__).resolve().parents[2]
    lines = report(files(root), root)
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
