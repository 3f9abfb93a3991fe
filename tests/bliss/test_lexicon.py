"""Bliss lexica: labels, pronunciations and their scores, and errors."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xml_strategies import xml_content

from shmbridge.bliss.lexicon import Lexicon, read_lexicon
from shmbridge.errors import FileFormatError
from shmbridge.refsprint.configuration import Configuration
from shmbridge.refsprint.criterion import Model

INVENTORY = """<phoneme-inventory>
  <phoneme><symbol>a</symbol><symbol>A</symbol></phoneme>
  <phoneme><symbol> b </symbol><variation>context</variation></phoneme>
  <phoneme><symbol>#</symbol><variation>none</variation><features><x/></features></phoneme>
</phoneme-inventory>"""


def lexicon(tmp_path: Path, lemmas: str, inventory: str = INVENTORY, normalize: bool = True) -> Lexicon:
    path = tmp_path / "lexicon.xml"
    path.write_text(f"<lexicon>{inventory}\n{lemmas}</lexicon>", encoding="utf-8")
    return read_lexicon(str(path), normalize)


def test_deeply_nested_elements_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="200 deep"):
        lexicon(tmp_path, "<lemma><orth>" + "<a>" * 300_000)


def test_labels_are_indices_into_the_inventory(tmp_path: Path) -> None:
    read = lexicon(tmp_path, '<lemma special="blank"><orth>[B]</orth><phon> # </phon></lemma>')
    assert read.phonemes == ("a", "b", "#")
    assert read.blank() == 2


@pytest.mark.parametrize("name", ["*.lexicon.file", "*.model-combination.lexicon.file"])
def test_the_options_name_the_lexicon_as_in_rasr(tmp_path: Path, name: str) -> None:
    path = lexicon(tmp_path, "").path
    model = Model(Configuration.from_arguments([f"--{name}={path}"]))
    assert model.has_lexicon
    assert model.num_labels == 3


def test_a_symbol_may_have_an_alias(tmp_path: Path) -> None:
    read = lexicon(tmp_path, "<lemma><orth>x</orth><phon>a A\n b</phon></lemma>")
    assert read.lemmas[0].pronunciations[0].phonemes == (0, 0, 1)


def test_each_orthography_finds_its_lemmas(tmp_path: Path) -> None:
    lemmas = """<lemma name="n"><orth> new  york </orth><orth>NY</orth><orth/><phon>a</phon>
        <synt><tok>x</tok></synt><eval><tok>y</tok></eval></lemma>
        <lemma special="silence"><orth>NY</orth></lemma>"""
    read = lexicon(tmp_path, lemmas)
    first, second = read.lemmas
    assert read.find_lemmas(("new", "york")) == [first]
    assert read.find_lemmas(("NY",)) == [first, second]
    assert read.find_lemmas(()) == [first]
    assert read.find_lemmas(("new",)) == []
    assert read.longest == 2
    assert read.special("silence") is second
    assert read.special("unknown") is None
    assert second.pronunciations == ()


@pytest.mark.parametrize(
    ("phons", "normalize", "probabilities"),
    [
        ("<phon>a</phon>", True, [1.0]),
        ("<phon>a</phon><phon>b</phon>", True, [0.5, 0.5]),
        ("<phon>a</phon><phon>b</phon>", False, [1.0, 1.0]),
        ('<phon weight="3">a</phon><phon>b</phon>', True, [0.75, 0.25]),
        ('<phon score="0.6931471805599453">a</phon><phon weight="0.5">b</phon>', False, [0.5, 0.5]),
        ('<phon weight="0">a</phon><phon>b</phon>', True, [1.0]),
    ],
)
def test_scores_of_pronunciations_follow_from_their_weights(
    tmp_path: Path, phons: str, normalize: bool, probabilities: list[float]
) -> None:
    read = lexicon(tmp_path, f"<lemma><orth>x</orth>{phons}</lemma>", normalize=normalize)
    scores = [pronunciation.score for pronunciation in read.lemmas[0].pronunciations]
    assert [math.exp(-score) for score in scores] == pytest.approx(probabilities)


@pytest.mark.parametrize(
    ("lemmas", "problem"),
    [
        ("<lemma><phon>a</phon></lemma>", "no orthography"),
        ("<lemma><orth>x</orth><phon>a z</phon></lemma>", "unknown phoneme 'z'"),
        ("<lemma><orth>x</orth><phon>a</phon><phon> a</phon></lemma>", "already has"),
        ('<lemma><orth>x</orth><phon weight="-1">a</phon></lemma>', "'-1'"),
        ('<lemma><orth>x</orth><phon weight="nan">a</phon></lemma>', "'nan'"),
        ('<lemma><orth>x</orth><phon score="-1e9">a</phon></lemma>', "'-1e9'"),
        ('<lemma><orth>x</orth><phon weight="x">a</phon></lemma>', "'x'"),
        ('<lemma><orth>x</orth><phon weight="1" score="0">a</phon></lemma>', "not have both"),
        ('<lemma><orth>x</orth><phon weight="0">a</phon></lemma>', "cannot sum"),
        ("<lemma><orth>x</orth><word/></lemma>", "unexpected <word>"),
        ("<phoneme-inventory/>", "come first"),
        (
            '<lemma special="s"><orth>x</orth></lemma><lemma special="s"><orth>x</orth></lemma>',
            "already defined",
        ),
        ("<lemma>&what;</lemma>", "entity"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, lemmas: str, problem: str) -> None:
    with pytest.raises(FileFormatError, match=problem) as caught:
        lexicon(tmp_path, lemmas)
    assert caught.value.line == 6


@pytest.mark.parametrize(
    "inventory",
    [
        "<phoneme-inventory><phoneme/></phoneme-inventory>",
        "<phoneme-inventory><phoneme><symbol/></phoneme></phoneme-inventory>",
        "<phoneme-inventory><phoneme><symbol>a b</symbol></phoneme></phoneme-inventory>",
        "<phoneme-inventory><phoneme><symbol>a</symbol></phoneme>"
        "<phoneme><symbol>a</symbol></phoneme></phoneme-inventory>",
    ],
)
def test_a_malformed_inventory_is_an_error(tmp_path: Path, inventory: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        lexicon(tmp_path, "", inventory)
    assert caught.value.line == 1


@pytest.mark.parametrize(
    "lemmas",
    [
        "",
        '<lemma special="blank"><orth>x</orth></lemma>',
        '<lemma special="blank"><orth>x</orth><phon>a b</phon></lemma>',
    ],
)
def test_ctc_requires_a_blank_of_one_phoneme(tmp_path: Path, lemmas: str) -> None:
    with pytest.raises(FileFormatError, match="blank"):
        lexicon(tmp_path, lemmas).blank()


elements = xml_content(
    ["", "a", " b  a ", "z"],
    ["phoneme-inventory", "phoneme", "symbol", "variation", "lemma", "orth", "phon", "synt", "tok", "x"],
    ["weight", "score", "special", "name"],
    st.sampled_from(["1", "0", "-1", "1e999", "nan", "x", "", "blank"]),
)
phons = st.lists(
    st.builds("<phon {}>{}</phon>".format, st.sampled_from(["", 'weight="0"', 'score="1e308"']), elements)
)


@settings(deadline=None)
@given(
    st.one_of(
        elements.map(lambda inside: f"<lexicon>{INVENTORY}{inside}</lexicon>".encode()),
        elements.map(lambda inside: f"<lexicon>{inside}</lexicon>".encode()),
        phons.map(
            lambda inside: (
                f"<lexicon>{INVENTORY}<lemma><orth>x</orth>{''.join(inside)}</lemma></lexicon>".encode()
            )
        ),
        st.binary(max_size=50),
    )
)
def test_arbitrary_files_raise_only_format_errors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "lexicon.xml")
        Path(path).write_bytes(content)
        try:
            read_lexicon(path).blank()
        except FileFormatError:
            pass
