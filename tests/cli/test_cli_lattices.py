"""`shmbridge lattices check` names each problem of a lattice with file and line."""

import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples import rasr

CHAIN = "VERSION=1.0\nN=2 L=1\nI=0 t=0.00\nI=1 t={end}\nJ=0 S=0 E=1 W={word}\n"


@pytest.fixture
def files(tmp_path):
    files = rasr.write(tmp_path / "files", rasr.make_task(labels=10, segments=4, frames=30))
    too_short = files.task.segments[-1]
    (word, _) = too_short.words
    lattice(files, -1).write_text(  # in time for its words
        "N=3 L=2\nI=0 t=0\nI=1 t=0.1\nI=2 t=0.2\n"
        f"J=0 S=0 E=1 W={word.orthography}\nJ=1 S=1 E=2 W={word.orthography}\n"
    )
    return files


def lattice(files, index):
    return files.folder / "lattices" / f"{files.task.segments[index].full_name}.lat"


def arguments(files, *more):
    return [
        *("lattices", "check", "--corpus", files.folder / "corpus.xml"),
        *("--lexicon", files.folder / "lattice-lexicon.xml", "--path", files.folder / "lattices", *more),
    ]


def test_good_lattices_have_no_problems(run, files):
    done = run(*arguments(files))
    assert done.code == 0, done.out + done.err
    assert done.out == "5 lattices, problems: 0\n"
    assert run(*arguments(files, "--json")).json == {"ok": True, "lattices": 5, "problems": []}


def test_each_problem_is_named_with_file_and_line(run, files):
    lattice(files, 0).unlink()
    lattice(files, 1).write_text(CHAIN.format(end=0.3, word="word1") + "J=x\n")
    lattice(files, 2).write_text(CHAIN.format(end=0.3, word="no-such-word"))
    lattice(files, 3).write_text(CHAIN.format(end=0.3, word="word1"))
    expected = [
        (0, None, "cannot be read"),
        (1, 6, "no field S"),
        (2, 5, "no orthography 'no-such-word'"),
        (2, None, "no path has the reference"),
        (3, None, "no path has the reference"),
    ]
    done = run(*arguments(files))
    assert done.code == 1
    *lines, last = done.out.splitlines()
    assert last == "5 lattices, problems: 5"
    assert len(lines) == len(expected), done.out
    report = run(*arguments(files, "--json"))
    assert report.code == 1
    assert not report.json["ok"]
    for (index, number, text), line, problem in zip(expected, lines, report.json["problems"]):
        path = str(lattice(files, index))
        assert line.startswith(path if number is None else f"{path}:{number}: ")
        assert line.count(path) == 1
        assert text in line
        assert (problem["file"], problem["line"]) == (path, number)
        assert problem["segment"] == files.task.segments[index].full_name
        assert line.endswith(problem["message"])


def test_a_phone_may_need_more_frames(run, files):
    done = run(*arguments(files, "--states-per-phone", "6"))
    assert done.code == 1
    assert "its shortest pronunciation needs" in done.out


def test_a_corpus_that_is_missing_is_an_error(run, files):
    (files.folder / "corpus.xml").unlink()
    done = run(*arguments(files))
    assert done.code == 1
    assert "error: " in done.err
    assert "corpus.xml" in done.err
    assert done.out == ""
