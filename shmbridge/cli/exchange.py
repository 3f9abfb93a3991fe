"""The exchange of a matrix with a Sprint that takes no time, and through pipes: how long it takes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from shmbridge import ShmbridgeError
from shmbridge.parent import SprintInstancePool

from .pipe_echo import PipeEcho

__all__ = ["TURNS", "WAYS", "Figures", "measure"]

WAYS = {
    "in place": "claim, write one number, send, read one number of the result",
    "batch": "get_batch_loss_and_error_signal with one segment: copied into the ring and out of it",
    "pipe": "the bytes to another process and back through pipes, without any check",
}

_ROUNDS = 5
_FEWEST = 5  # exchanges of a way in a round, however long they take
_SEGMENT = "bench/recording/segment"

TURNS = _ROUNDS * len(WAYS)  # how often `measure` calls progress

RoundTrip = Callable[[float], float]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """Durations of one way with one size, in seconds.

    Attributes:
        way: one of WAYS.
        rows, columns: time and label of the float32 matrix.
        p50, p90, p99: percentiles.
        count: exchanges that were measured.
    """

    way: str
    rows: int
    columns: int
    p50: float
    p90: float
    p99: float
    count: int


def measure(rows: int, columns: int, duration: float, progress: Progress) -> list[Figures]:
    """All ways with one size. They take turns, so that a busy moment of the machine hits them all.

    Args:
        rows, columns: of the matrix.
        duration: seconds for each way.
        progress: called before each turn, with what comes.

    Raises:
        ShmbridgeError: the null Sprint cannot be started, there is not enough shared memory, or what came
            back is not what was sent.
        MemoryError: there is not enough for the matrices.
    """
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with _round_trips(rows, columns) as round_trips:
        for way, round_trip in round_trips.items():
            _turn(way, round_trip, 0, [])  # touches all memory for the first time
        for _ in range(_ROUNDS):
            for way, round_trip in round_trips.items():
                progress(f"{rows} x {columns}, {way}")
                _turn(way, round_trip, duration / _ROUNDS, times[way])
    figures = []
    for way, durations in times.items():
        p50, p90, p99 = np.percentile(durations, [50, 90, 99]).tolist()
        figures.append(Figures(way, rows, columns, p50, p90, p99, len(durations)))
    return figures


def _turn(way: str, round_trip: RoundTrip, duration: float, times: list[float]) -> None:
    end = time.perf_counter() + duration
    number = 0
    while number < _FEWEST or time.perf_counter() < end:
        number += 1
        begin = time.perf_counter()
        came_back = round_trip(number % 1000)
        times.append(time.perf_counter() - begin)
        if came_back != number % 1000:
            raise ShmbridgeError(
                f"{way}: {came_back} came back where {number % 1000} was sent [bench-failed]"
            )


@contextlib.contextmanager
def _round_trips(rows: int, columns: int) -> Iterator[dict[str, RoundTrip]]:
    """What does one exchange of a number in a matrix, for each way."""
    matrix: np.ndarray[Any, np.dtype[Any]] = np.zeros((rows, 1, columns), np.float32)
    error_signal = np.empty_like(matrix)
    lengths = np.array([rows])
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            SprintInstancePool(
                sprint_exec_path=[sys.executable, "-m", "shmbridge.cli.null_sprint"],
                use_python_segment_order=False,
                ring_size=2 * matrix.nbytes + (1 << 20),
            )
        )
        pipe = stack.enter_context(PipeEcho(matrix.nbytes))

        def in_place(value: float) -> float:
            segment = pool.claim(_SEGMENT, rows, columns)
            segment.posteriors[0, 0] = value
            with segment.send(check_nan=False).result() as result:
                return float(result.error_signal[0, 0])

        def batch(value: float) -> float:
            matrix[0, 0, 0] = value
            pool.get_batch_loss_and_error_signal(matrix, lengths, [_SEGMENT], out=error_signal)
            return float(error_signal[0, 0, 0])

        def through_pipe(value: float) -> float:
            matrix[0, 0, 0] = value
            return float(np.frombuffer(pipe.exchange(matrix.data.cast("B")), np.float32, 1)[0])

        yield {"in place": in_place, "batch": batch, "pipe": through_pipe}
