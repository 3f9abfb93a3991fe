"""Word lattices: the arrays, HTK files, n-best lists, pruning."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmbridge import FileFormatError, UsageError
from shmbridge.lattices import Lattice, Word, from_n_best, prune, read_htk, write_htk

HTK = """# a comment
VERSION=1.0 UTTERANCE = "some name"
base=10

N=4   L=4
I=0 t=0.00
I=1 t=0.10 W=left
I=2 t=0.25
I=3 t=0.3
J=0 S=0 E=1 W=one a=-1.5 l=-0.5
J=1 S=0 E=2 W="two words" a=-2 l=-1
J=2 START=1 END=3 l=-3
J=3 S=2 E=3 W=\u00fcber
"""


def diamond() -> Lattice:
    """Two ways of two words each; the second is worse by 3."""
    return Lattice(
        [0.0, 0.1, 0.2, 0.4], [0, 0, 1, 2], [1, 2, 3, 3], list("abcd"), [-1, -2, -1, -2], [0, 0, 0, -1]
    )


def paths(lattice: Lattice) -> Counter[tuple[tuple[str, float, float, float], ...]]:
    """Return all paths: (word, time, acoustic, language) of each arc."""
    outgoing: dict[int, list[int]] = {}
    for arc, source in enumerate(lattice.sources.tolist()):
        outgoing.setdefault(source, []).append(arc)
    found: Counter[tuple[tuple[str, float, float, float], ...]] = Counter()
    stack: list[tuple[int, tuple[tuple[str, float, float, float], ...]]] = [(0, ())]
    while stack:
        node, path = stack.pop()
        if node not in outgoing:
            found[path] += 1
        for arc in outgoing.get(node, []):
            target = int(lattice.targets[arc])
            scores = (float(lattice.acoustic[arc]), float(lattice.language[arc]))
            stack.append((target, (*path, (lattice.words[arc], float(lattice.times[target]), *scores))))
    return found


def score(path: tuple[tuple[str, float, float, float], ...]) -> float:
    return sum(acoustic + language for _, _, acoustic, language in path)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.lat").write_text(HTK, encoding="utf-8")
    lattice = read_htk(tmp_path / "x.lat")
    assert lattice.times.tolist() == [0.0, 0.1, 0.25, 0.3]
    assert lattice.words == ("one", "two words", "left", "\u00fcber")
    assert lattice.sources.tolist() == [0, 0, 1, 2]
    assert lattice.targets.tolist() == [1, 2, 3, 3]
    assert lattice.lines is not None
    assert lattice.lines.tolist() == [10, 11, 12, 13]
    np.testing.assert_allclose(lattice.acoustic, np.array([-1.5, -2, 0, 0]) * math.log(10))
    np.testing.assert_allclose(lattice.language, np.array([-0.5, -1, -3, 0]) * math.log(10))
    assert lattice.is_final.tolist() == [False, False, False, True]


def test_a_file_can_be_read_as_rasr_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.lat").write_text(HTK, encoding="utf-8")
    assert read_htk(tmp_path / "x.lat", convert_base=False).acoustic.tolist() == [-1.5, -2, 0, 0]


@pytest.mark.parametrize("suffix", [".lat", ".lat.gz"])
def test_a_written_file_is_read_back_exactly(tmp_path: Path, suffix: str) -> None:
    random.seed(3)
    words = ["a", "two words", "\u00fc", "", "x=y"]
    times = [0.0, 0.1 + 0.2, 1 / 3, 7.0]
    lattice = Lattice(times, [0, 0, 1, 1, 2], [1, 2, 2, 3, 3], words, [random.gauss(0, 100) for _ in words])
    path = tmp_path / f"x{suffix}"
    write_htk(lattice, path)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == suffix.endswith(".gz")
    read = read_htk(path)
    assert read.words == lattice.words
    for name in ("times", "sources", "targets", "acoustic", "language"):
        assert getattr(read, name).tolist() == getattr(lattice, name).tolist()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "base=1", "base is 1.0; it must be positive"),
        (5, "N=4 L", "'L' is not a field"),
        (6, "I=1 t=0", "the node is I=1; it must be I=0"),
        (6, "I=0", "no field t="),
        (6, "I=0 t=soon", "t is 'soon'; it must be a number"),
        (8, "X=1", "'X=1' is neither a node (I=…) nor an arc (J=…)"),
        (10, "J=0 S=0 E=4 W=one", "E is 4; it must be a node from 0 to 3"),
        (10, "J=0 S=0 E=-1 W=one", "E is -1; it must be a node"),
        (10, "J=0 E=1 W=one", "no field START="),
        (10, "J=0 S=0 E=1 a=nan", "a is 'nan'; it must be a number"),
        (11, "I=4 t=1", "a node follows an arc"),
        (None, "J=1 S=3 E=2 W=back", "arc 1 lasts from 0.3 to 0.25 s"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: int | None, text: str, message: str) -> None:
    lines = HTK.splitlines()
    lines[(line or 11) - 1] = text
    path = tmp_path / "x.lat"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(FileFormatError) as error:
        read_htk(path)
    assert message in str(error.value)
    assert error.value.line == line


@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff", gzip.compress(HTK.encode())[:-9], b"N=0 L=0\n"])
def test_a_broken_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.lat").write_bytes(content)
    with pytest.raises(FileFormatError):
        read_htk(tmp_path / "x.lat")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='NLIJSEWatl=0123 ."\n-x', max_size=120))
def test_any_text_is_read_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lat"
    path.write_text("N=1\nI=0 t=0\n" + text, encoding="utf-8")
    try:
        lattice = read_htk(path)
    except FileFormatError as error:
        message = str(error)
    else:
        message = f"{path}: {lattice.num_nodes} nodes"
        assert lattice.num_nodes >= 1
    assert message.startswith(str(path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sources": [0, 0, 1]}, r"sources has the shape \(3,\)"),
        ({"targets": [1, 2, 3, 4]}, r"targets\[3\] is 4; it must be a node from 0 to 3"),
        ({"times": [0.0, 0.1, math.nan, 0.4]}, r"times\[2\] is NaN"),
        ({"times": [0.0, 0.0, 0.0, 0.0], "sources": [0, 2, 1, 2], "targets": [1, 1, 2, 3]}, "cycle"),
        ({"acoustic": ["x"] * 4}, "acoustic has the dtype"),
    ],
)
def test_invalid_arrays_are_refused(fields: dict[str, list[float]], message: str) -> None:
    valid = {"times": [0.0, 0.1, 0.2, 0.4], "sources": [0, 0, 1, 2], "targets": [1, 2, 3, 3]}
    with pytest.raises(UsageError, match=message):
        Lattice(**{**valid, **fields}, words="abcd")  # type: ignore[arg-type]


def test_a_word_that_htk_cannot_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"words\[0\] is 'a\"b'"):
        write_htk(Lattice([0, 1], [0], [1], ['a"b']), tmp_path / "x.lat")
    assert not list(tmp_path.iterdir())


def test_pruning_keeps_arcs_on_paths_within_the_beam() -> None:
    lattice = diamond()
    assert prune(lattice, 3).words == ("a", "b", "c", "d")
    best = prune(lattice, 2.9)
    assert (best.words, best.num_nodes, best.times.tolist()) == (("a", "c"), 3, [0.0, 0.1, 0.4])
    assert prune(lattice, 0.5, acoustic_scale=0, language_scale=0).num_arcs == 4
    with pytest.raises(UsageError, match="beam is -1"):
        prune(lattice, -1)


words = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.sampled_from([-1.0, -2.5])), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(st.lists(words, min_size=1, max_size=6), st.floats(0, 6))
def test_an_n_best_list_becomes_a_lattice_of_exactly_its_hypotheses(
    lists: list[list[tuple[str, int, float]]], beam: float
) -> None:
    total = max(sum(length for _, length, _ in each) for each in lists) + 1
    hypotheses = []
    for each in lists:
        ends = list(itertools.accumulate(length for _, length, _ in each))
        starts = [0, *ends]
        found = [Word(w, s / 10, e / 10, score) for (w, _, score), s, e in zip(each, starts, ends)]
        hypotheses.append([*found, Word("end", ends[-1] / 10, total / 10)])
    lattice = from_n_best(hypotheses)
    expected = {tuple((w.word, w.end, w.acoustic, w.language) for w in each) for each in hypotheses}
    assert paths(lattice) == Counter(expected)
    assert lattice.num_arcs <= sum(len(each) for each in hypotheses)
    joined = from_n_best(hypotheses, join_at_times=True)
    spoken = {tuple((word, end) for word, end, _, _ in path) for path in paths(joined)}
    assert {tuple((word, end) for word, end, _, _ in path) for path in expected} <= spoken
    pruned = paths(prune(lattice, beam))
    best = max(score(path) for path in expected)
    assert set(pruned) >= {path for path in expected if score(path) >= best - beam + 1e-6}
    assert all(
        any(score(path) >= best - beam - 1e-6 for path in pruned if arc in path) for p in pruned for arc in p
    )


def test_an_n_best_list_with_a_gap_is_refused() -> None:
    with pytest.raises(UsageError, match=r"hypothesis 1, 'a' ends at 0.2 s and 'b' begins at 0.3 s"):
        from_n_best([[Word("x", 0, 0.5)], [Word("a", 0, 0.2), Word("b", 0.3, 0.5)]])
    with pytest.raises(UsageError, match=r"hypothesis 1 ends at 0.4 s, hypothesis 0 at 0.5 s"):
        from_n_best([[Word("x", 0, 0.5)], [Word("x", 0, 0.4)]])
    with pytest.raises(UsageError, match="no hypotheses"):
        from_n_best([])
