"""Options: files, the command line, and the value of a parameter."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmbridge.errors import FileFormatError, OptionError
from shmbridge.refsprint.configuration import Configuration


def configuration(tmp_path: Path, text: str, *arguments: str) -> Configuration:
    path = tmp_path / "sprint.config"
    path.write_text(text, encoding="utf-8")
    return Configuration.from_arguments([f"--config={path}", *arguments])


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("[*.corpus]\nfile = a", (), "a"),
        ("[*]\ncorpus.file = a", (), "a"),
        ("*.corpus.file=a", (), "a"),
        ("[]\nneural-network-trainer.corpus.file = a", (), "a"),
        ("[nn-trainer.corpus]\nfile = a", (), "a"),
        ("[nn-trainer.*]\nfile = a", (), "a"),
        ("[*]\nfile = a", (), "a"),
        ("[other]\nfile = a", (), ""),
        ("[*.corpus.segments]\nfile = a", (), ""),
        # The more specific resource wins, regardless of the order.
        ("[*.corpus]\nfile = b\n[*]\nfile = a", (), "b"),
        ("[*.corpus]\nfile = b", ("--*.corpus.file=c",), "c"),
        ("[*]\nfile = a", ("--*.file=c",), "c"),
        ("[nn-trainer.corpus]\nfile = b", ("--corpus.file=c",), "c"),
        # Equally specific: the first in alphabetical order, so the file's, as in RASR.
        ("[*.corpus]\nfile = b", ("--*.file=c",), "b"),
        # A later resource replaces an earlier one of the same name.
        ("[*.corpus]\nfile = a\nfile = b", (), "b"),
        ("", ("--*.corpus.file=a", "--*.corpus.file=b"), "b"),
        ("", ("--*.corpus.file", "a"), "a"),
        ("", ("--.neural-network-trainer.corpus.file=a",), "a"),
        ("", ("--nothing", "--*.corpus.file=a"), "a"),
        ("", ("--*.corpus.file",), "true"),
    ],
)
def test_a_parameter_has_the_same_value_as_in_sprint(
    tmp_path: Path, text: str, arguments: tuple[str, ...], expected: str
) -> None:
    assert configuration(tmp_path, text, *arguments).select("corpus").string("file") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = a b ", "a b"),
        ("x=a", "a"),
        ("  x\t=  a  # comment", "a"),
        ("x = a ; comment", "a"),
        ("x = a % comment", "a"),
        ("x = c2p_fd:3,p2c_fd:4", "c2p_fd:3,p2c_fd:4"),
        ('x = "a # b" # c', "a # b"),
        ("x = 'a b'", "a b"),
        ('x = ""', ""),
        ("x", "true"),
        ("x # comment", "true"),
        ("x = a=b", "a=b"),
    ],
)
def test_a_line_sets_its_value(tmp_path: Path, line: str, expected: str) -> None:
    assert configuration(tmp_path, f"[*]\n{line}\n").string("x", "unset") == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[*\n", 1),
        ("[*]\n\n# c\nx y\n", 4),
        ("[*]\nx =\n", 2),
        ("= a\n", 1),
        ("a..b = c\n", 1),
        ("a*.b = c\n", 1),
        ("[a..b]\n", 1),
        ("include nowhere.config\n", 1),
        ("include other.config more\n", 1),
    ],
)
def test_a_malformed_line_is_reported_with_its_number(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(FileFormatError) as caught:
        configuration(tmp_path, text)
    assert caught.value.line == line
    assert caught.value.path.endswith("sprint.config")


def test_an_included_file_inherits_the_selection(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.config").write_text("x = inner\n[*]\ny = inner\n", encoding="utf-8")
    config = configuration(tmp_path, "d = sub\n[*.a]\ninclude sub/inner.config\ny = outer\n")
    assert config.select("a").string("x") == "inner"
    assert config.string("y") == "inner"
    assert config.select("a").string("y") == "outer"


def test_a_file_may_refer_to_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.config").write_text("[$(component)]\n$(name) = inner\n", encoding="utf-8")
    arguments = (f"--*.base-dir={tmp_path}", "--*.component=*.corpus", "--*.name=file")
    config = configuration(tmp_path, "include $(base-dir)/sub/inner.config\n", *arguments)
    assert config.select("corpus").string("file") == "inner"


def test_the_command_line_replaces_a_value_of_the_file(tmp_path: Path) -> None:
    config = configuration(tmp_path, "[nn-trainer.*]\nx = file\n", "--*.x=command line")
    assert config.string("x") == "command line"


def test_bytes_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "sprint.config"
    path.write_bytes("# für\n[*]\nx = für\n".encode("latin-1"))
    config = Configuration.from_arguments([f"--config={path}"])
    assert os.fsencode(config.string("x")) == "für".encode("latin-1")


def test_a_file_that_includes_itself_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="includes itself"):
        configuration(tmp_path, "include sprint.config\n")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        Configuration.from_arguments([f"--config={tmp_path / 'nowhere'}"])


def test_a_stray_argument_is_an_error() -> None:
    with pytest.raises(FileFormatError, match="not an option"):
        Configuration.from_arguments(["--*.a=b", "stray"])


def test_references_are_looked_up_from_the_component_outwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFSPRINT_TEST", "environment")
    text = "[*]\ndir = /d\nx = $(dir)/$(name).xml\nname = outer\ne = $(REFSPRINT_TEST)\n"
    text += "[*.corpus]\nname = inner\n"
    config = configuration(tmp_path, text)
    assert config.string("x") == "/d/outer.xml"
    assert config.select("corpus").string("x") == "/d/inner.xml"
    assert config.string("e") == "environment"
    assert config.resolve("a$(dir)b") == "a/db"


@pytest.mark.parametrize("value", ["$(x)", "$(y)", "$(nothing)", "$(unclosed", "$(a*b)", "$()", "$[1+1]"])
def test_an_undefined_or_malformed_reference_is_an_error(tmp_path: Path, value: str) -> None:
    config = configuration(tmp_path, f"[*]\nx = {value}\ny = $(x)\n")
    with pytest.raises(FileFormatError) as caught:
        config.string("x")
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([f"v{i} = $(v{i + 1})$(v{i + 1})" for i in range(45)], "has more than"),
        ([f"v{i} = $(v{i + 1})" for i in range(2000)], "50 deep"),
        ([f"v{i} = {f'$(v{i + 1})' * 90}{'x' * 100}" for i in range(3)], "has more than"),
    ],
    ids=["doubled each time", "a long chain", "long"],
)
def test_references_that_expand_too_far_are_an_error(tmp_path: Path, lines: list[str], problem: str) -> None:
    text = "\n".join(["[*]", *lines, f'v{len(lines)} = "{"x" * 200}"'])
    with pytest.raises(FileFormatError, match=problem):
        configuration(tmp_path, text).string("v0")


def test_values_of_other_types_are_checked() -> None:
    config = Configuration.from_arguments(["--yes=yes", "--no=false", "--seven=7", "--half=0.5", "--word=w"])
    assert config.boolean("yes", False) is True
    assert config.boolean("no", True) is False
    assert config.boolean("unset", True) is True
    assert config.integer("seven", 1) == 7
    assert config.integer("unset", 1) == 1
    assert config.seconds("half") == 0.5
    assert config.choice("word", ("w", "x"), "x") == "w"
    for parse in (
        lambda: config.boolean("word", True),
        lambda: config.integer("half", 1),
        lambda: config.seconds("word"),
        lambda: config.choice("word", ("x",), "x"),
    ):
        with pytest.raises(OptionError, match="neural-network-trainer"):
            parse()


def test_a_misspelt_choice_is_reported_with_the_closest_one() -> None:
    config = Configuration.from_arguments(["--*.action=python-contrl"])
    with pytest.raises(OptionError, match=r"one of dance, python-control \(did you mean python-control\?\)"):
        config.choice("action", ("dance", "python-control"), "")


lines = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.text(alphabet="[]*.= \tab$()#\"'", max_size=30),
        st.sampled_from(["[*]", "include x", "x = $(y)", "y = $(x)"]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(lines, st.lists(st.one_of(st.text(max_size=12), st.text(alphabet="-*.=ab", max_size=12)), max_size=4))
def test_arbitrary_options_raise_only_our_errors(text: list[str], arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x")
        Path(path).write_bytes("\n".join(text).encode("utf-8", "surrogatepass"))
        config: Optional[Configuration] = None
        try:
            config = Configuration.from_arguments([*arguments, f"--config={path}"])
            config.select("corpus").string("x")
            config.string("a")
        except (FileFormatError, OptionError):
            pass
