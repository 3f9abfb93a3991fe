"""The check of `make check` for banned phrases finds them in code, comments and pages."""

from __future__ import annotations

import pytest
from prose import findings, report


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("It waits in vain.", "in vain"),
        ("a call that lets\n    # go of its lock", "lets go of"),
        (" * of\n * late", "of late"),
        ("The value is no number.", "is no number"),
        ("Else it is copied.", "Else"),
        ("It ends. Where the ring is full, it waits.", "Where the ring"),
        ("The rest is copied. Whoever asks waits.", "Whoever"),
    ],
)
def test_a_banned_phrase_is_found_also_across_lines(text, phrase):
    assert [found for _, found, _ in findings(text)] == [phrase]


@pytest.mark.parametrize(
    "text",
    [
        "There is no room.",
        "It is no longer needed.",
        "if x:\n    y()\nelse:\n    z()",
        "## Where the data come from",
        "Who computes the gradient?",
        "The file is not a number.",
    ],
)
def test_good_english_is_not_reported(text):
    assert list(findings(text)) == []


def test_a_finding_names_the_file_the_line_and_a_better_word(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nThree at the most.\n", "utf-8")
    assert report([page], tmp_path) == ["page.md:3: at the most ==> at most"]
