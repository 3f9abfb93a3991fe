"""The oracles of the tests are themselves tested."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from support.ctc import paths_of
from support.lattices import Oracle, finite_differences, make_task


@pytest.mark.parametrize("labels", [(), (0,), (0, 0), (0, 1, 1), (1, 0, 1)])
def test_the_paths_are_all_that_collapse_to_the_labels(labels):
    blank = 2
    expected = [
        path
        for path in itertools.product(range(3), repeat=5)
        if tuple(label for label, _ in itertools.groupby(path) if label != blank) == labels
    ]
    assert sorted(paths_of(labels, 5, blank)) == sorted(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("criterion", ["mmi", "minimum_error"])
def test_the_error_signal_of_the_lattice_oracle_is_its_gradient(criterion, seed):
    random = np.random.default_rng(seed)
    lexicon = {"a": [(0, 1), (1,)], "b": [(2,)], "[SILENCE]": [(3,)]}
    words = ["a", "b", "[SILENCE]", "b", "a", "[SILENCE]"]
    ends = [(0, 1), (1, 3), (1, 2), (2, 3), (0, 2), (0, 1)]
    arcs = [(source, target, word, random.normal()) for (source, target), word in zip(ends, words)]
    task = make_task([0, 0.03, 0.05, 0.08], arcs, ["a", "b"], lexicon)
    matrix = random.normal(size=(8, 4))
    scales = {"acoustic_scale": 0.6, "lattice_scale": 1.3}
    _, error_signal = getattr(Oracle(task, matrix, **scales), criterion)()
    gradient = finite_differences(
        lambda moved: getattr(Oracle(task, moved, **scales), criterion)()[0], matrix, 1e-4
    )
    np.testing.assert_allclose(0.6 * error_signal, gradient, atol=1e-6)
    assert np.abs(error_signal).max() > 0.01
