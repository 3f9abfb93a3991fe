"""The oracle of the tests is itself tested."""

from __future__ import annotations

import itertools

import pytest

from support.ctc import paths_of


@pytest.mark.parametrize("labels", [(), (0,), (0, 0), (0, 1, 1), (1, 0, 1)])
def test_the_paths_are_all_that_collapse_to_the_labels(labels):
    blank = 2
    expected = [
        path
        for path in itertools.product(range(3), repeat=5)
        if tuple(label for label, _ in itertools.groupby(path) if label != blank) == labels
    ]
    assert sorted(paths_of(labels, 5, blank)) == sorted(expected)
