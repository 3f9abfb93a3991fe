"""docs/troubleshooting.md has one entry for each slug of the messages in the source tree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from messages import SLUG, Message, by_slug, messages, words

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"


class Entry(NamedTuple):
    """A heading with its slug, and the text below it."""

    symptom: str
    slug: str
    text: str


def entries(page: str) -> list[Entry]:
    found = []
    for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        heading, _, body = re.split(r"^## ", part, flags=re.MULTILINE)[0].partition("\n")
        match = re.fullmatch(r"(.+) \{#([a-z-]+)\}", heading)
        assert match, f"{heading}: no slug"
        found.append(Entry(match[1], match[2], body))
    return found


def without_entry(all_messages: list[Message], all_entries: list[Entry]) -> list[str]:
    known = {entry.slug for entry in all_entries}
    return [
        f"{message.where}: {message.text}"
        for message in all_messages
        if not known.intersection(SLUG.findall(message.text))
    ]


@pytest.fixture(scope="module")
def tree():
    return messages(ROOT / "shmbridge") + messages(ROOT / "csrc")


@pytest.fixture(scope="module")
def page():
    return entries(PAGE.read_text("utf-8"))


def test_every_message_has_an_entry(tree, page):
    assert not without_entry(tree, page)


def test_every_entry_belongs_to_a_message(tree, page):
    used = {slug for message in tree for slug in SLUG.findall(message.text)}
    assert {entry.slug for entry in page} <= used


def test_every_entry_has_a_cause_and_a_remedy(page):
    for entry in page:
        for what in ("Cause", "Do"):
            text = re.search(rf"\*\*{what}\.\*\*(.+?)(?:\n\n|$)", entry.text + "\n\n", flags=re.DOTALL)
            assert text, f"{entry.symptom}: no {what}"
            assert len(words(text[1])) >= 2, f"{entry.symptom}: {what} is empty"


def test_each_slug_has_one_entry(page):
    slugs = [entry.slug for entry in page]
    assert sorted(slugs) == sorted(set(slugs))


# --- the collector of messages

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

def refuse(rule) -> BatchError:
    return BatchError(f"the value is wrong; it must be {rule} [some-slug]")

def refuses():
    raise refuse("a part of a message")

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
        "the value is wrong; it must be … [some-slug]",
        "… rows are too …",
    }


def test_the_messages_of_a_slug_are_listed_without_it():
    found = [Message("a file is missing [file]", "x.py:1"), Message("a file is missing [file]", "y.py:1")]
    assert by_slug(found) == {"file": ["a file is missing"]}


def test_a_message_without_an_entry_is_reported_with_its_place(tmp_path, page):
    (tmp_path / "new.py").write_text('\nraise ValueError(f"a {what} with another slug [another-slug]")\n')
    assert without_entry(messages(tmp_path), page) == [
        "new.py:2: a … with another slug [another-slug]",
    ]
