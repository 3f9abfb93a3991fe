"""MMI and minimum error on word lattices, against an enumeration of all paths, and finite differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmbridge.bliss.lexicon import Lexicon, read_lexicon
from shmbridge.lattices import Lattice
from shmbridge.refsprint.console import CriticalError
from shmbridge.refsprint.lattice_criterion import LatticeCriterion
from support.lattices import accuracy, finite_differences, phones

LEXICON = """<lexicon><phoneme-inventory>
<phoneme><symbol>s</symbol></phoneme><phoneme><symbol>a</symbol></phoneme>
<phoneme><symbol>b</symbol></phoneme><phoneme><symbol>c</symbol></phoneme></phoneme-inventory>
<lemma special="silence"><orth>[SILENCE]</orth><orth/><phon>s</phon></lemma>
<lemma><orth>one</orth><phon>a b</phon><phon>b</phon></lemma>
<lemma><orth>two</orth><orth>too</orth><phon>b c</phon></lemma>
<lemma><orth>new york</orth><phon>c a</phon></lemma></lexicon>"""
WORDS = {"one": [(1, 2), (2,)], "two": [(2, 3)], "too": [(2, 3)], "new york": [(3, 1)], "[SILENCE]": [(0,)]}
NUM_LABELS = 4


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    path = tmp_path_factory.mktemp("lattices") / "lexicon.xml"
    path.write_text(LEXICON)
    return read_lexicon(str(path))


def best_alignment(labels: tuple[int, ...], start: int, end: int, matrix: Any) -> list[int]:
    """Return the best of all alignments, which are as many as there are ways to place the borders."""
    found = []
    for borders in itertools.combinations(range(start + 1, end), len(labels) - 1):
        edges = [start, *borders, end]
        path = [label for label, b, e in zip(labels, edges, edges[1:]) for _ in range(b, e)]
        found.append((sum(matrix[start + t, label] for t, label in enumerate(path)), path))
    return max(found)[1]


def enumerated(lattice: Lattice, reference: str, matrix: Any, criterion: LatticeCriterion) -> float:
    """Return the loss, from a list of all paths of pronunciations."""
    frames = [round(time * 100) for time in lattice.times]
    final = lattice.is_final.tolist()
    paths = []
    stack: list[tuple[int, list[tuple[str, int, list[int], float]]]] = [(0, [])]
    while stack:
        node, path = stack.pop()
        if final[node]:
            paths.append(path)
        for arc in np.nonzero(lattice.sources == node)[0].tolist():
            word, target = lattice.words[arc], int(lattice.targets[arc])
            for labels in WORDS[word]:
                alignment = best_alignment(labels, frames[node], frames[target], matrix)
                acoustic = sum(matrix[frames[node] + t, label] for t, label in enumerate(alignment))
                score = criterion.acoustic_scale * acoustic + criterion.lattice_scale * (
                    criterion.lm_scale * lattice.language[arc] + criterion.am_scale * lattice.acoustic[arc]
                )
                stack.append((target, [*path, (word, frames[node], alignment, score)]))
    scores = np.array([sum(score for *_, score in path) for path in paths])
    spoken = [
        " ".join(word.replace("too", "two") for word, *_ in path if word != "[SILENCE]") for path in paths
    ]
    correct = np.array([words == reference for words in spoken])
    if criterion.is_mmi:
        return float(np.logaddexp.reduce(scores) - np.logaddexp.reduce(scores[correct]))
    in_reference = {
        phone
        for path, is_correct in zip(paths, correct)
        for _, start, alignment, _ in path
        if is_correct
        for phone in phones(alignment, start)
    }
    accuracies = [
        sum(
            accuracy(phone, in_reference)
            for _, start, alignment, _ in path
            for phone in phones(alignment, start)
            if phone[0] not in criterion.short_pauses
        )
        for path in paths
    ]
    weights = np.exp(scores - np.logaddexp.reduce(scores))
    return -criterion.accuracy_scale * float(weights @ accuracies)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Lattice, str, Any]:
    """Draw a lattice that contains its reference, and log posteriors."""
    reference = draw(st.lists(st.sampled_from(["one", "two", "new york"]), min_size=1, max_size=3))
    times = [0]
    arcs = []
    for word in reference:
        written = "too" if word == "two" and draw(st.booleans()) else word
        if draw(st.booleans()):
            times.append(times[-1] + draw(st.integers(1, 2)))
            arcs.append((len(times) - 2, len(times) - 1, "[SILENCE]"))
        times.append(times[-1] + draw(st.integers(2, 4)))
        arcs.append((len(times) - 2, len(times) - 1, written))
    for _ in range(draw(st.integers(0, 4))):
        source = draw(st.integers(0, len(times) - 2))
        target = draw(st.integers(source + 1, len(times) - 1))
        word = draw(st.sampled_from(sorted(WORDS)))
        if times[target] - times[source] >= 2:
            arcs.append((source, target, word))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    sources, targets, words = zip(*arcs)
    scores = random.normal(size=(2, len(arcs)))
    lattice = Lattice([time / 100 for time in times], sources, targets, words, *scores)
    logits = random.normal(size=(times[-1], NUM_LABELS)) * 2
    return lattice, " ".join(reference), logits - np.logaddexp.reduce(logits, 1)[:, None]


CRITERIA = [
    LatticeCriterion(is_mmi=True),
    LatticeCriterion(is_mmi=False),
    LatticeCriterion(is_mmi=True, acoustic_scale=0.3, lattice_scale=2.0, lm_scale=0.5, am_scale=0.7),
    LatticeCriterion(
        is_mmi=False, acoustic_scale=0.4, accuracy_scale=2.0, lm_scale=3.0, short_pauses=frozenset([0])
    ),
]


@settings(max_examples=60, deadline=None)
@given(tasks(), st.sampled_from(CRITERIA))
def test_loss_and_error_signal_are_those_of_all_paths(
    lexicon: Lexicon, task: tuple[Lattice, str, Any], criterion: LatticeCriterion
) -> None:
    lattice, reference, matrix = task
    outcome = criterion(lattice, reference, lexicon, matrix)
    assert outcome is not None
    assert outcome.loss == pytest.approx(enumerated(lattice, reference, matrix, criterion), abs=1e-9)
    gradient = finite_differences(
        lambda moved: enumerated(lattice, reference, moved, criterion), matrix, 1e-6
    )
    np.testing.assert_allclose(criterion.acoustic_scale * outcome.error_signal, gradient, atol=1e-6)
    assert np.abs(outcome.error_signal.sum(1)).max() < 1e-9


def chain(words: list[str], ends: list[int]) -> Lattice:
    nodes = range(len(words) + 1)
    return Lattice([0, *(end / 100 for end in ends)], nodes[:-1], nodes[1:], words)


@pytest.mark.parametrize(
    ("words", "ends", "num_frames"),
    [
        (["one", "two"], [3, 4], 4),  # an arc is too short for its phones
        (["one", "two"], [3, 6], 7),  # the lattice ends before the features
        (["one", "two"], [3, 6], 3),  # an arc begins behind the features
    ],
)
def test_a_lattice_that_does_not_fit_is_discarded(
    lexicon: Lexicon, words: list[str], ends: list[int], num_frames: int
) -> None:
    matrix = np.full((num_frames, NUM_LABELS), -1.0)
    assert LatticeCriterion(is_mmi=True)(chain(words, ends), "one two", lexicon, matrix) is None


def test_a_reference_without_probability_is_discarded(lexicon: Lexicon) -> None:
    matrix = np.full((6, NUM_LABELS), -1.0)
    matrix[:, 3] = -math.inf
    assert LatticeCriterion(is_mmi=True)(chain(["one", "two"], [3, 6]), "one two", lexicon, matrix) is None


def test_arcs_without_probability_do_not_count(lexicon: Lexicon) -> None:
    lattice = Lattice([0, 0.03], [0, 0], [1, 1], ["one", "two"])
    matrix = np.full((3, NUM_LABELS), -1.0)
    matrix[:, 3] = -math.inf
    for is_mmi in (True, False):
        outcome = LatticeCriterion(is_mmi=is_mmi)(lattice, "one", lexicon, matrix)
        assert outcome is not None
        assert np.isfinite(outcome.error_signal).all()
        assert (outcome.error_signal[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("words", "reference"), [(["one", "two"], "two one"), (["one", "three"], "one three")]
)
def test_a_lattice_without_its_reference_ends_the_process(
    lexicon: Lexicon, words: list[str], reference: str
) -> None:
    with pytest.raises(CriticalError, match="cannot calculate best"):
        LatticeCriterion(is_mmi=True)(chain(words, [3, 6]), reference, lexicon, np.zeros((6, NUM_LABELS)))


def test_a_lattice_may_end_behind_the_features(lexicon: Lexicon) -> None:
    matrix = np.full((6, NUM_LABELS), -1.0)
    criterion = LatticeCriterion(is_mmi=False)
    outcome = criterion(chain(["one", "two"], [3, 8]), "one two", lexicon, matrix)
    exact = criterion(chain(["one", "two"], [3, 6]), "one two", lexicon, matrix)
    assert outcome is not None
    assert exact is not None
    assert outcome.loss == exact.loss
