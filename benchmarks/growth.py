"""Growth: cost and memory over many exchanges, and cost over sizes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .peers import Peer, Work
from .percentiles import summarise
from .processes import children_of, memory
from .progress import Progress
from .sprint import open_pool

_SMALL = (10, 100)
_LABELS = 256  # a row is 1 kB
_SEGMENT = "corpus/recording/segment"


def over_exchanges(exchanges: int, chunks: int, progress: Progress) -> dict[str, Any]:
    """Measure the cost of an exchange in place, and memory, over many small exchanges.

    Args:
        exchanges: number of exchanges.
        chunks: number of parts in the result.
        progress: shows the progress.

    Returns:
        For each chunk: percentiles in seconds, and the memory of parent and child after it, in bytes.
    """
    from .peers.shmbridge_in_place import InPlace

    chunks = max(1, min(chunks, exchanges))
    count = exchanges // chunks
    progress.begin("growth over exchanges", chunks)
    durations = np.zeros(
        count, np.int64
    )  # one array for all chunks, so that the benchmark itself does not grow
    parts = []
    before = children_of(os.getpid())
    with InPlace(Work(*_SMALL)) as peer:
        (child,) = children_of(os.getpid()) - before
        _trips(peer, np.zeros(min(count, 1000), np.int64))
        for number in range(chunks):
            progress.advance(f"{number * count} of {chunks * count} exchanges")
            _trips(peer, durations)
            parts.append(
                {
                    "exchanges": (number + 1) * count,
                    "seconds": summarise(durations),
                    "parent": memory(os.getpid()),
                    "child": memory(child),
                }
            )
    return {"rows": _SMALL[0], "columns": _SMALL[1], "chunks": parts}


def _trips(peer: Peer, durations: np.ndarray[Any, np.dtype[Any]]) -> None:
    for index in range(len(durations)):
        start = time.perf_counter_ns()
        peer.round_trip(1.0)
        durations[index] = time.perf_counter_ns() - start


def over_sizes(
    sizes: Sequence[int], rounds: int, block_seconds: float, progress: Progress
) -> list[dict[str, Any]]:
    """Measure the cost of an exchange over the size of the matrix: in place, and a batch of one with `out=`.

    Args:
        sizes: bytes, multiples of 1024.
        rounds: number of turns of each size.
        block_seconds: duration of a turn.
        progress: shows the progress.

    Returns:
        For each size: percentiles in seconds of both ways.
    """
    progress.begin("growth over sizes", rounds * len(sizes))
    largest = max(sizes)
    posteriors = np.full((largest // 1024, 1, _LABELS), -np.log(_LABELS), np.float32)
    error_signal = np.full_like(posteriors, -1.0)
    durations: dict[int, dict[str, list[int]]] = {size: {"in_place": [], "batch_out": []} for size in sizes}
    with open_pool(largest, records=1) as pool:

        def in_place(rows: int) -> None:
            segment = pool.claim(_SEGMENT, rows, _LABELS)
            segment.posteriors[0, 0] = 1.0
            with segment.send(check_nan=False).result() as result:
                float(result.error_signal[0, 0])

        def batch_out(rows: int) -> None:
            pool.get_batch_loss_and_error_signal(
                posteriors[:rows], [rows], [_SEGMENT], out=error_signal[:rows]
            )

        for _ in range(rounds):
            for size in sizes:
                progress.advance(f"{size / 1e6:g} MB")
                for name, exchange in (("in_place", in_place), ("batch_out", batch_out)):
                    durations[size][name] += _block(lambda: exchange(size // 1024), block_seconds)  # noqa: B023
    return [
        {"bytes": size, **{name: summarise(values) for name, values in durations[size].items()}}
        for size in sizes
    ]


def _block(exchange: Any, seconds: float) -> list[int]:
    """Return the durations of exchanges, at least one, until the time is over, after one to warm up."""
    exchange()
    durations = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while True:
        start = time.perf_counter_ns()
        exchange()
        now = time.perf_counter_ns()
        durations.append(now - start)
        if now >= end:
            return durations
