"""A lattice is compared with corpus and lexicon, as Sprint does."""

from __future__ import annotations

from pathlib import Path

import pytest

from shmbridge.bliss.corpus import Segment, read_corpus
from shmbridge.bliss.lexicon import Lexicon, read_lexicon
from shmbridge.lattices import Lattice, check_lattice, read_htk, write_htk

CORPUS = """<corpus name="c"><recording name="r" audio="x.wav">
<segment name="s" start="0" end="0.3"><orth> new york one </orth></segment></recording></corpus>"""

LEXICON = """<lexicon><phoneme-inventory>
<phoneme><symbol>a</symbol></phoneme><phoneme><symbol>b</symbol></phoneme></phoneme-inventory>
<lemma special="silence"><orth>[SILENCE]</orth><orth/><phon>b</phon></lemma>
<lemma><orth>new york</orth><orth>NY</orth><phon>a b a b</phon><phon>a b a</phon></lemma>
<lemma><orth>one</orth><phon>b a</phon></lemma>
<lemma><orth>mute</orth></lemma></lexicon>"""


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    (tmp_path / "corpus.xml").write_text(CORPUS)
    return read_corpus(str(tmp_path / "corpus.xml")).segments[0]


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "lexicon.xml").write_text(LEXICON)
    return read_lexicon(str(tmp_path / "lexicon.xml"))


def lattice(words: list[str], ends: list[float]) -> Lattice:
    nodes = list(range(len(words) + 1))
    return Lattice([0.0, *ends], nodes[:-1], nodes[1:], words)


@pytest.mark.parametrize("words", [["new york", "[SILENCE]", "one"], ["[SILENCE]", "NY", "one"]])
def test_a_lattice_with_the_reference_is_good(words: list[str], segment: Segment, lexicon: Lexicon) -> None:
    good = lattice(words, [0.1, 0.2, 0.3])
    assert check_lattice(good, segment, lexicon, num_frames=30) == []


@pytest.mark.parametrize(
    ("words", "ends", "frames", "messages"),
    [
        (["one", "NY"], [0.1, 0.3], 30, ["no path has the reference 'new york one' of segment 'c/r/s'"]),
        (["NY"], [0.3], 30, ["no path has the reference"]),
        (["NY", "one", "two"], [0.1, 0.2, 0.3], 30, ["no orthography 'two'", "no path has the reference"]),
        (["NY", "one", ""], [0.1, 0.2, 0.3], 30, ["the arc has no word", "no path has the reference"]),
        (["NY", "one"], [0.02, 0.3], 30, ["'NY' lasts 2 frames; its shortest pronunciation needs 3"]),
        (["mute", "NY", "one"], [0.1, 0.2, 0.3], 30, ["'mute' has no pronunciation", "no path"]),
        (["NY", "one"], [0.1, 0.3], 31, ["a path ends at frame 30 of 31; Sprint skips"]),
        (["NY", "one"], [0.1, 0.3], 29, ["a path ends at frame 30, behind the last of 29"]),
        ([], [], 30, ["the lattice has no arcs", "no path has the reference"]),
    ],
)
def test_a_problem_is_named(
    words: list[str], ends: list[float], frames: int, messages: list[str], segment: Segment, lexicon: Lexicon
) -> None:
    problems = check_lattice(lattice(words, ends), segment, lexicon, num_frames=frames)
    assert len(problems) == len(messages)
    assert all(message in str(problem) for message, problem in zip(messages, problems))


def test_a_problem_of_an_arc_names_its_line(tmp_path: Path, segment: Segment, lexicon: Lexicon) -> None:
    write_htk(lattice(["NY", "one", "two"], [0.1, 0.2, 0.3]), tmp_path / "x.lat")
    problems = check_lattice(read_htk(tmp_path / "x.lat"), segment, lexicon)
    line = next(
        i for i, text in enumerate((tmp_path / "x.lat").read_text().splitlines(), 1) if "W=two" in text
    )
    assert problems[0].line == line
    assert str(problems[0]).startswith(f"line {line}: the lexicon has no orthography 'two'")
