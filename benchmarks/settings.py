"""The settings of the full and the quick run."""

from __future__ import annotations

import dataclasses

PARTS = ("exchange", "pools", "growth", "idle")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run, which the results include.

    Attributes:
        parts: any of PARTS.
        peers: names of the peers of the exchange; if empty, all.
        sizes: (time,label) of the exchange's matrices.
        rounds: number of turns of each peer at a size.
        block_seconds: duration of a turn.
        criteria_ms: durations of the pools' criterion.
        children: sizes of the pools.
        batch: segments of a batch in the pools.
        pool_seconds: approximate time for each criterion.
        exchanges: number of small exchanges that show the growth.
        chunks: number of parts that these exchanges are divided into.
        growth_bytes: sizes of the matrices that show the growth; multiples of 1024.
        growth_rounds, growth_block_seconds: like rounds and block_seconds.
        idle_seconds: duration of the idle measurement.
    """

    parts: tuple[str, ...] = PARTS
    peers: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ((100, 1000), (500, 4501), (1000, 12001), (3000, 12001))
    rounds: int = 15
    block_seconds: float = 0.1
    criteria_ms: tuple[float, ...] = (0, 1, 10, 100)
    children: tuple[int, ...] = (1, 2)
    batch: int = 20
    pool_seconds: float = 6.0
    exchanges: int = 1_000_000
    chunks: int = 100
    growth_bytes: tuple[int, ...] = tuple(1024 << (2 * power) for power in range(10))
    growth_rounds: int = 5
    growth_block_seconds: float = 0.05
    idle_seconds: float = 5.0


FULL = Settings()
QUICK = Settings(
    sizes=((10, 100), (100, 1000)),
    rounds=3,
    block_seconds=0.02,
    criteria_ms=(0, 10),
    batch=10,
    pool_seconds=0.5,
    exchanges=5000,
    chunks=10,
    growth_bytes=(1 << 10, 1 << 16, 1 << 22),
    growth_rounds=2,
    growth_block_seconds=0.02,
    idle_seconds=0.5,
)
