"""`make demo`: options and short runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.packages import import_or_skip

import_or_skip("matplotlib")

sys.path.append(str(Path(__file__).resolve().parents[2]))  # examples/ is not installed

from examples.demo import cli, data  # noqa: E402 - requires matplotlib


@pytest.fixture
def small_corpus(monkeypatch):
    """A few segments in place of all."""
    whole = data.load()
    held_out = {name: segments[:4] for name, segments in whole.held_out.items()}
    corpus = data.Corpus(whole.labels, whole.train[:16], held_out)
    monkeypatch.setattr(data, "load", lambda: corpus)


def epochs(out):
    return [int(number) for number in re.findall(r"^ *(\d+)/\d", out, re.MULTILINE)]


def test_ctc_alone(small_corpus, tmp_path, capsys):
    assert cli.main(["--epochs", "2", "--children", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert epochs(out) == [1, 2]
    assert "held-out label errors, new voices" in out
    assert [path.name for path in tmp_path.iterdir()] == ["learning-curve.png"]


def test_minimum_error_continues_the_same_network_as_ctc(small_corpus, tmp_path, capsys):
    assert cli.main(["--criterion", "me", "--epochs", "2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert epochs(out) == [1, 2, 2]
    assert "lattice-processor: 16 segments, 0 skipped" in out
    assert "CTC, then minimum error, new voices" in out
    assert (tmp_path / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "lattices").rglob("*.lat"))) == 16
    # The same epoch with another criterion.
    second = re.findall(r"^ *2/2 .*$", out, re.MULTILINE)
    assert second[0].split()[1] != second[1].split()[1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--criterion mmi", "invalid choice: 'mmi'"),
        ("--criterion me --epochs 1", "--epochs is 1; with --criterion me it must be at least 2"),
        ("--epochs 0", "'0' is not an integer of at least 1"),
    ],
)
def test_invalid_options_are_refused(arguments, problem, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split())
    assert end.value.code == 2
    assert problem in capsys.readouterr().err


def test_an_executable_that_is_missing_is_an_error(small_corpus, tmp_path, capsys):
    missing = str(tmp_path / "lattice-processor")
    options = ["--criterion", "me", "--epochs", "2", "--children", "1", "--lattice-sprint", missing]
    assert cli.main([*options, "--out", str(tmp_path)]) == 1
    assert missing in capsys.readouterr().err
