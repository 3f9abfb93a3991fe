"""docs/troubleshooting.md has an entry for every message of the tree, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from messages import FIELD, Message, messages, words

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"

# So many fixed words a message on the page has to have, so that `…` alone does not stand for all.
ENOUGH = 6


class Entry(NamedTuple):
    """A heading, the messages below it, and the rest."""

    symptom: str
    listed: list[str]
    text: str


def entries(page: str) -> list[Entry]:
    found = []
    for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        symptom, _, body = re.split(r"^## ", part, flags=re.MULTILINE)[0].partition("\n")
        listed = re.findall(r"^    (\S.*)$", body, flags=re.MULTILINE)
        found.append(Entry(symptom, listed, re.sub(r"^    .*$", "", body, flags=re.MULTILINE)))
    return found


def is_for(listed: str, message: str) -> bool:
    """Whether the page's `listed` is the message: its fixed words, in order, and enough of them."""
    pattern = ".*".join(map(re.escape, " ".join(listed.split()).split(FIELD)))
    return re.fullmatch(pattern, " ".join(message.split())) is not None and len(words(listed)) >= min(
        ENOUGH, len(words(message))
    )


def without_entry(all_messages: list[Message], all_entries: list[Entry]) -> list[str]:
    listed = [text for entry in all_entries for text in entry.listed]
    return [
        f"{message.where}: {message.text}"
        for message in all_messages
        if not any(is_for(text, message.text) for text in listed)
    ]


@pytest.fixture(scope="module")
def tree():
    return messages(ROOT / "shmbridge") + messages(ROOT / "csrc")


@pytest.fixture(scope="module")
def page():
    return entries(PAGE.read_text("utf-8"))


def test_every_message_has_an_entry(tree, page):
    assert not without_entry(tree, page)


def test_no_entry_is_for_a_message_that_is_gone(tree, page):
    texts = {message.text for message in tree}
    gone = [text for entry in page for text in entry.listed if not any(is_for(text, m) for m in texts)]
    assert not gone


def test_every_entry_has_messages_a_cause_and_what_to_do(page):
    for entry in page:
        assert entry.listed, entry.symptom
        for what in ("Cause", "Do"):
            said = re.search(rf"\*\*{what}\.\*\*([^*]*)", entry.text)
            assert said, f"{entry.symptom}: no {what}"
            assert len(words(said[1])) >= 2, f"{entry.symptom}: {what} says nothing"


def test_no_message_is_listed_twice(page):
    listed = [text for entry in page for text in entry.listed]
    assert sorted(listed) == sorted(set(listed))


# --- whether the collector sees what it has to see

SOURCE = """
import logging
from .errors import BatchError
_log = logging.getLogger(__name__)

def check(shape, index):
    where = "the tag" if index is None else f"tags[{index}]"
    if not shape:
        raise BatchError(f"{where} has the shape {shape}; "
                         "that cannot be")
    raise BatchError("no shape " + shape)

def later(name) -> BatchError:
    return BatchError(name, f"{name!r} comes later")

def warns(error):
    _log.warning("it went wrong: %s", error)
    raise make("a maker's own text")

def make(problem) -> BatchError:
    return BatchError(problem)

def inner():
    try:
        raise ValueError("only for the line below")
    except (ValueError, KeyError):
        raise BatchError("the outer one") from None
"""


def test_the_collector_finds_messages_however_they_are_written(tmp_path):
    (tmp_path / "source.py").write_text(SOURCE)
    (tmp_path / "source.c").write_text('PyErr_Format(PyExc_ValueError, "%zu rows are " "too %s", n, how);')
    assert {message.text for message in messages(tmp_path)} == {
        "the tag has the shape …; that cannot be",
        "tags[…] has the shape …; that cannot be",
        "no shape …",
        "… comes later",
        "it went wrong: …",
        "a maker's own text",
        "the outer one",
        "… rows are too …",
    }


def test_a_message_without_an_entry_is_told_with_its_place(tmp_path, page):
    (tmp_path / "new.py").write_text('\nraise ValueError(f"a {what} that nobody has described yet")\n')
    assert without_entry(messages(tmp_path), page) == [
        "new.py:2: a … that nobody has described yet",
    ]


@pytest.mark.parametrize(
    ("listed", "message", "fits"),
    [
        ("the pool was closed", "the pool was closed", True),
        ("segment … was released", "segment … was released", True),
        ("… was released", "the result of segment … was released", False),
        ("…", "the pool was closed", False),
        ("the pool was opened", "the pool was closed", False),
        ("closed was the pool", "the pool was closed", False),
    ],
)
def test_a_listed_message_fits_where_its_fixed_words_do(listed, message, fits):
    assert is_for(listed, message) is fits
