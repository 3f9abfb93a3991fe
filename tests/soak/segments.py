"""The content of each segment, which trainer and Sprint both compute: bytes, loss, and Sprint's action.

Everything follows from the seed of the round, the segment's name and the number of the exchange. That
number is the first of the posteriors, so that old bytes are told from new ones.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# 1000 names of 12 to 212 bytes, none of them ASCII alone.
NAMES = [f"söak/rec/{i:03d}" + "ü" * (i * 7919 % 101) for i in range(1000)]
MAX_NAME = max(len(name.encode()) for name in NAMES)
MAX_NUMBER = 1 << 24  # the integers that float32 represents
# Every matrix is a piece of this one: cheap to create, and different at each place.
_TABLE = -np.random.default_rng(1).random(1 << 20, dtype=np.float32)
MAX_SIZE = len(_TABLE) // 2


class Does(enum.Enum):
    """What Sprint does with a segment: it answers, or something else."""

    ANSWER = "answer"
    SKIP = "skip"
    RAISE = "raise"
    DIE_ONCE = "die once"
    DIE_ALWAYS = "die always"
    HANG_ONCE = "hang once"
    SPOIL = "spoil"  # answer wrongly, to test the soak itself


def draw(seed: int, number: int, what: str) -> int:
    """Return a random number from 0 to 2^32 - 1 that depends only on the arguments."""
    return zlib.crc32(f"{seed} {number} {what}".encode())


def does(seed: int, number: int, chances: Mapping[str, float]) -> Does:
    """Return Sprint's action. `chances` are by the names of Does; the remainder is the chance to answer."""
    place = draw(seed, number, "does") / 2**32
    for name, chance in chances.items():
        if place < chance:
            return Does(name)
        place -= chance
    return Does.ANSWER


def loss_of(seed: int, name: str, number: int) -> float:
    """Return the loss, an integer that float32 represents."""
    return float(draw(seed, number, f"loss {name}") % MAX_NUMBER)


def posteriors_of(seed: int, name: str, number: int, shape: tuple[int, int]) -> Array:
    """Return the posteriors (time,label) float32."""
    matrix = _matrix(seed, name, number, "posteriors", shape).copy()
    matrix[0, 0] = -number
    return matrix


def is_posteriors(array: Array, seed: int, name: str, number: int) -> bool:
    """Return whether the array has exactly the expected values."""
    expected = _matrix(seed, name, number, "posteriors", array.shape)
    flat = np.ascontiguousarray(array).reshape(-1)
    return bool(flat[0] == -number) and np.array_equal(flat[1:], expected.reshape(-1)[1:])


def error_signal_of(seed: int, name: str, number: int, shape: tuple[int, int]) -> Array:
    """Return the error signal (time,label) float32, read-only."""
    return _matrix(seed, name, number, "error signal", shape)


def automaton_of(name: str) -> tuple[int, Array, Array]:
    """Return the number of states, edges (3,E) uint32: from, to, emission, and weights (E,) float32."""
    n_states, n_edges = 1 + draw(0, 0, name) % 50, draw(1, 0, name) % 80
    numbers = np.arange(n_edges, dtype=np.uint32)
    edges = np.stack([numbers % n_states, numbers * 7 % n_states, numbers * 31])
    return n_states, edges.astype(np.uint32), _matrix(0, name, 0, "weights", (1, n_edges))[0]


def _matrix(seed: int, name: str, number: int, what: str, shape: tuple[int, ...]) -> Array:
    size = shape[0] * shape[1]
    start = draw(seed, number, f"{what} {name} {shape}") % (len(_TABLE) - size)
    matrix = _TABLE[start : start + size].reshape(shape)
    matrix.flags.writeable = False
    return matrix
