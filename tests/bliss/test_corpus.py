"""Bliss corpora: names, orthographies, speakers, included files, and errors."""

from __future__ import annotations

import gzip
import math
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xml_strategies import xml_content

from shmbridge.bliss.corpus import ANONYMOUS, Corpus, CorpusOptions, Segment, read_corpus
from shmbridge.errors import FileFormatError


def corpus(tmp_path: Path, text: str, options: CorpusOptions | None = None) -> Corpus:
    path = tmp_path / "corpus.xml"
    path.write_text(text, encoding="utf-8")
    return read_corpus(str(path), options)


def segments(tmp_path: Path, inside: str, recording: str = "") -> list[Segment]:
    text = f'<corpus name="c">{inside}<recording name="r" audio="a">{recording}</recording></corpus>'
    return list(corpus(tmp_path, text).segments)


def test_full_names_contain_the_enclosing_sections(tmp_path: Path) -> None:
    text = """<corpus name="c">
      <recording name="r" audio="a">
        <segment name="x"/><segment/><segment name="4"/><segment/><segment/>
      </recording>
      <subcorpus name="s"><subcorpus name="t">
        <recording name="r" video="v"><segment/></recording>
      </subcorpus></subcorpus>
      <recording name="q" audio="a"><segment/></recording>
    </corpus>"""
    read = corpus(tmp_path, text)
    assert read.name == "c"
    names = [segment.full_name for segment in read.segments]
    # The name of an unnamed segment is its number, with a plus if that is taken.
    assert names == ["c/r/x", "c/r/2", "c/r/4", "c/r/4+", "c/r/5", "c/s/t/r/1", "c/q/1"]
    assert read.segments[0].line == 3
    assert read.segments[0].path.endswith("corpus.xml")


def test_a_prefix_can_be_removed_from_full_names(tmp_path: Path) -> None:
    text = """<corpus name="c"><subcorpus name="s"><recording name="r" audio="a"><segment/></recording>
      </subcorpus></corpus>"""
    read = corpus(tmp_path, text, CorpusOptions(remove_prefix="c/"))
    assert [segment.full_name for segment in read.segments] == ["s/r/1"]


@pytest.mark.parametrize(
    ("orth", "expected"),
    [
        ("<orth>a</orth>", "a "),
        ("<orth>\n  a\tb \r\n c </orth>", "a b c "),
        ("<orth>a <noise>b</noise>c<other> d</other></orth>", "a bc d "),
        ("<orth>a<segment><x/></segment>b</orth>", "ab "),
        ("<orth>&lt;&#228;&amp;</orth>", "<ä& "),
        ("<orth>a\u00a0b</orth>", "a\u00a0b "),
        ("<orth/>", ""),
        ("<orth> </orth>", ""),
        ("", ""),
    ],
)
def test_one_blank_follows_each_word_of_an_orthography(tmp_path: Path, orth: str, expected: str) -> None:
    assert segments(tmp_path, "", f"<segment>{orth}</segment>")[0].orthography == expected


def test_orthographies_can_be_converted_to_one_case(tmp_path: Path) -> None:
    recording = '<recording name="r" audio="a"><segment><orth>aB</orth></segment></recording>'
    text = f'<corpus name="c">{recording}</corpus>'
    assert corpus(tmp_path, text, CorpusOptions(upper_case=True)).segments[0].orthography == "AB "
    assert corpus(tmp_path, text, CorpusOptions(lower_case=True)).segments[0].orthography == "ab "


def test_times_are_seconds(tmp_path: Path) -> None:
    first, second = segments(tmp_path, "", '<segment start="0.5" end="1.25"/><segment/>')
    assert (first.start, first.end) == (0.5, 1.25)
    assert (second.start, second.end) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("outside", "inside", "expected"),
    [
        ("", "", None),
        ('<speaker-description name="a"/>', "", None),
        ('<speaker-description name="a"/>', '<speaker name="a"/>', "a"),
        ('<speaker-description name="a"/><speaker name="a"/>', "", "a"),
        ("<speaker-description><gender>male</gender></speaker-description>", "", ANONYMOUS),
        ("", "<speaker-description/>", ANONYMOUS),
        ('<speaker-description name="a"/><speaker name="a"/>', '<speaker-description name="b"/>', "b"),
    ],
)
def test_a_segment_inherits_the_speaker_of_its_section(
    tmp_path: Path, outside: str, inside: str, expected: str | None
) -> None:
    assert segments(tmp_path, outside, f"<segment>{inside}</segment>")[0].speaker == expected


def test_other_elements_are_ignored(tmp_path: Path) -> None:
    inside = '<description>d<x/></description><condition-description name="k"><y/></condition-description>'
    recording = (
        '<condition name="k"/><unknown><segment/></unknown><segment><more><orth>x</orth></more></segment>'
    )
    (segment,) = segments(tmp_path, inside, recording)
    assert segment.full_name == "c/r/1"
    assert segment.orthography == ""


def test_a_corpus_includes_plain_and_gzipped_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    inner = (
        '<corpus name="c"><recording name="i" audio="a"><segment/></recording><include file="g.gz"/></corpus>'
    )
    (tmp_path / "d" / "inner.xml").write_text(inner, encoding="utf-8")
    packed = '<corpus name="c"><recording name="z" audio="a"><segment/></recording></corpus>'
    (tmp_path / "d" / "g.gz").write_bytes(gzip.compress(packed.encode()))
    text = """<corpus name="c"><recording name="a" audio="a"><segment/></recording>
      <include file="$(D)/inner.xml"/><recording name="b" audio="a"><segment/></recording></corpus>"""
    read = corpus(tmp_path, text, CorpusOptions(resolve=lambda name: name.replace("$(D)", "d")))
    assert [segment.full_name for segment in read.segments] == ["c/a/1", "c/i/1", "c/z/1", "c/b/1"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "no element found"),
        ("<corpus name='c'>\n<recording name='r' audio='a'>\n</corpus>", 3, "mismatched tag"),
        ("<lexicon/>", 1, "expected <corpus>"),
        ("<corpus/>", 1, "'name'"),
        ("<corpus name='c'>\n<recording audio='a'/></corpus>", 2, "'name'"),
        ("<corpus name='c'>\n<recording name='r'/></corpus>", 2, "'audio'"),
        ("<corpus name='c'>\n<segment/></corpus>", 2, "unexpected <segment>"),
        ("<corpus name='c'>\n<speaker name='x'/></corpus>", 2, "not defined"),
        ("<corpus name='c'>\n<include file='nowhere.xml'/></corpus>", None, "cannot be read"),
        ("<corpus name='c'>\n<include file='corpus.xml'/></corpus>", None, "includes itself"),
        ("<corpus name='c'>\n<subcorpus name='s'/>\n<subcorpus name='s'/></corpus>", 3, "already defined"),
        (
            "<corpus name='c'><recording name='r' audio='a'>\n<segment name='1'/>\n<segment name='1'/>"
            "</recording></corpus>",
            3,
            "already defined",
        ),
        (
            "<corpus name='c'><recording name='r' audio='a'>\n<segment start='2' end='1'/></recording>"
            "</corpus>",
            2,
            "cannot last",
        ),
        (
            "<corpus name='c'><recording name='r' audio='a'>\n<segment end='x'/></recording></corpus>",
            2,
            "must be a time",
        ),
        (
            "<corpus name='c'><recording name='r' audio='a'>\n<segment end='nan'/></recording></corpus>",
            2,
            "cannot last",
        ),
        ("<?xml version='1.0' encoding='nonsense'?>\n<corpus name='c'/>", 1, "encoding"),
        ("<?xml version='1.0' encoding='gbk'?>\n<corpus name='c'/>", 1, "encoding"),
        ("<corpus name='c'><recording name='r' audio='a'/></corpus>\n<corpus/>", 2, "junk after"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, text: str, line: int | None, problem: str) -> None:
    with pytest.raises(FileFormatError, match=problem) as caught:
        corpus(tmp_path, text)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("utf8", "utf-8"),
        ("UTF_8", "utf-8"),
        ("utf8", "utf-8-sig"),
        ("latin-1", "latin-1"),
        ("cp1250", "cp1250"),
    ],
)
def test_encodings_may_have_the_names_of_python(tmp_path: Path, declared: str, codec: str) -> None:
    recording = '<recording name="grün" audio="a"><segment><orth>süß</orth></segment></recording>'
    text = f"""<?xml version='1.0' encoding='{declared}'?><corpus name="c">{recording}</corpus>"""
    path = tmp_path / "corpus.xml"
    path.write_text(text, encoding=codec)
    (segment,) = read_corpus(str(path)).segments
    assert (segment.full_name, segment.orthography) == ("c/grün/1", "süß ")


def test_elements_that_are_read_or_ignored_need_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "corpus.xml"
    ignored = "<x>text</x>" * 200_000
    path.write_text(f'<corpus name="c"><description>{ignored}</description></corpus>', encoding="utf-8")
    tracemalloc.start()
    try:
        read_corpus(str(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size


BOMB = """<?xml version="1.0"?>
<!DOCTYPE corpus [
  <!ENTITY a "aaaaaaaaaa"> <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
]>
<corpus name="&b;"/>"""


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        '<!DOCTYPE corpus [<!ENTITY x SYSTEM "/etc/passwd">]><corpus name="c">&x;</corpus>',
        '<!DOCTYPE corpus SYSTEM "x.dtd"><corpus name="c">&x;</corpus>',
    ],
)
def test_entities_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileFormatError, match=r"refused|entity") as caught:
        corpus(tmp_path, text)
    assert caught.value.line is not None


def test_a_document_type_without_declarations_is_accepted(tmp_path: Path) -> None:
    assert corpus(tmp_path, '<!DOCTYPE corpus SYSTEM "x.dtd"><corpus name="c"/>').name == "c"


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_gzip_file_is_an_error(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(b'<corpus name="c">' + bytes(range(65, 90)) * 40 + b"</corpus>"))
    if damage == "cut":
        packed = packed[:-12]
    else:
        packed[20] ^= 0xFF
    path = tmp_path / "corpus.xml.gz"
    path.write_bytes(packed)
    with pytest.raises(FileFormatError):
        read_corpus(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<corpus name="c">' + '<subcorpus name="s">' * 100_000, "200 deep"),
        ('<corpus name="c"><condition>' + "<x>" * 100_000, "200 deep"),
        ('<corpus name="' + "x" * (20 << 20) + '"/>', "longer than 4194304 bytes"),
        ('<corpus name="c"><!--' + "x" * (20 << 20) + "--></corpus>", "longer than 4194304 bytes"),
    ],
    ids=["subcorpora", "others", "attribute", "comment"],
)
def test_files_that_take_quadratic_time_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FileFormatError, match=problem):
        corpus(tmp_path, text)


def test_a_long_orthography_is_accepted(tmp_path: Path) -> None:
    (segment,) = segments(tmp_path, "", "<segment><orth>" + "word " * 1_000_000 + "</orth></segment>")
    assert len(segment.orthography) == 5_000_000


def test_a_missing_file_and_a_directory_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileFormatError, match="cannot be read"):
            read_corpus(str(path))


elements = xml_content(
    ["", "text", " a  b "],
    ["corpus", "subcorpus", "recording", "segment", "orth", "speaker", "speaker-description", "include", "x"],
    ["name", "audio", "start", "end", "file"],
    st.one_of(st.sampled_from(["a", "b", "1", "-1", "inf", "nan", ""]), st.text("ab/.\x7f", max_size=3)),
)


@settings(deadline=None)
@given(
    st.one_of(
        elements.map(lambda inside: f'<corpus name="c">{inside}</corpus>'.encode()),
        elements.map(
            lambda inside: (
                f'<corpus name="c"><recording name="r" audio="a">{inside}</recording></corpus>'.encode()
            )
        ),
        st.text(max_size=50).map(lambda text: text.encode("utf-8")),
        st.binary(max_size=50),
        st.binary(max_size=50).map(lambda data: b"\x1f\x8b\x08\x00" + data),
        st.binary(max_size=50).map(gzip.compress),
    )
)
def test_arbitrary_files_raise_only_format_errors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "corpus.xml")
        Path(path).write_bytes(content)
        try:
            read = read_corpus(path)
        except FileFormatError:
            return
    assert len({segment.full_name for segment in read.segments}) <= len(read.segments)
