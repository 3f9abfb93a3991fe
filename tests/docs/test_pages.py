"""Pages fence their code, name files that exist, and show the measured figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pictures import criterion

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("*/README.md"),
    *ROOT.glob("examples/*/README.md"),
]
FENCE = re.compile(r"^ *```(.*)\n(?:.*\n)*? *```$", re.MULTILINE)
LIST_ITEM = re.compile(r"^ *(?:[-*]|\d+\.) .*\n(?:\n? +.*\n)*", re.MULTILINE)
INDENTED_BLOCK = re.compile(r"\n\n(?: {4}|\t)\S.*")
FILE = re.compile(r"`((?:shmbridge|csrc|tests|docs|benchmarks|examples)/[\w./-]*)`")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_code_blocks_are_fenced_and_name_their_language(page):
    text = page.read_text("utf-8")
    assert "" not in FENCE.findall(text)
    assert INDENTED_BLOCK.findall(LIST_ITEM.sub("", FENCE.sub("", text))) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_files_that_a_page_names_exist(page):
    named = FILE.findall(page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_tests_on_the_reliability_page_exist():
    named = re.findall(r"`(\w+/test_\w+\.py)`", (ROOT / "docs" / "reliability.md").read_text("utf-8"))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / "tests" / path).exists()] == []


def test_the_picture_of_the_home_page_has_the_figures_of_the_benchmarks_page():
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    by_name = {cells[1]: cells for cells in rows if len(cells) == 8}
    assert by_name["no parent, Python layer"][2] == f"{criterion.ALONE} ms"
    for exchange in criterion.EXCHANGES:
        assert by_name[exchange.row][5] == f"{exchange.added} ms"
