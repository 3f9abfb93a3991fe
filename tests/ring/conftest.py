"""Rings of any capacity, which close after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from ring_pair import RingPair


@pytest.fixture
def ring_of() -> Iterator[Callable[[int], RingPair]]:
    """Return a function that creates a ring of a capacity."""
    pairs = []

    def create(capacity: int) -> RingPair:
        pairs.append(RingPair(capacity))
        return pairs[-1]

    yield create
    for pair in pairs:
        pair.close()


@pytest.fixture
def ring(ring_of: Callable[[int], RingPair]) -> RingPair:
    """A ring of 1024 bytes."""
    return ring_of(1024)
