"""Measure the exchange of a matrix with a null Sprint, and with another process through pipes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from typing import Any, cast

import numpy as np

from shmbridge import ShmbridgeError
from shmbridge.parent import SprintInstancePool

__all__ = ["TURNS", "WAYS", "Figures", "measure"]

WAYS = {
    "in place": "claim a segment, write one number, send, read one number of the result",
    "batch": "get_batch_loss_and_error_signal with one segment, copied into and out of the ring",
    "pipe": "send the same number of bytes to another process and back through pipes, unchecked",
}

_ROUNDS = 5
_MIN_EXCHANGES = 5  # of each way in a round, however long they take
_SEGMENT = "bench/recording/segment"

TURNS = _ROUNDS * len(WAYS)  # the number of times that `measure` calls progress

RoundTrip = Callable[[float], float]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """How long an exchange takes in one way with one size.

    Attributes:
        way: one of WAYS.
        rows, columns: shape (time, label) of the float32 matrix.
        p50, p90, p99: percentiles in seconds.
        count: number of exchanges measured.
    """

    way: str
    rows: int
    columns: int
    p50: float
    p90: float
    p99: float
    count: int


def measure(rows: int, columns: int, duration: float, progress: Progress) -> list[Figures]:
    """Measure all ways with one size. They take turns, so that other load affects all of them alike.

    Args:
        rows, columns: shape (time, label) of the matrix.
        duration: seconds for each way.
        progress: called before each turn with its description.

    Raises:
        ShmbridgeError: the null Sprint cannot be started, there is not enough shared memory, or an exchange
            returned a wrong number.
        MemoryError: there is not enough memory for the matrices.
    """
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with _round_trips(rows, columns) as round_trips:
        for way, round_trip in round_trips.items():
            _turn(way, round_trip, 0, [])  # maps all pages before they are measured
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
    while number < _MIN_EXCHANGES or time.perf_counter() < end:
        number += 1
        begin = time.perf_counter()
        returned = round_trip(number % 1000)
        times.append(time.perf_counter() - begin)
        if returned != number % 1000:
            raise ShmbridgeError(f"{way} returned {returned}; it must return {number % 1000} [bench-failed]")


@contextlib.contextmanager
def _round_trips(rows: int, columns: int) -> Iterator[dict[str, RoundTrip]]:
    """Yield a function for each way, which sends a number in a matrix and returns the number received."""
    # Log posteriors, apart from the number: the pool checks one frame.
    matrix: np.ndarray[Any, np.dtype[Any]] = np.full((rows, 1, columns), -np.log(columns), np.float32)
    error_signal = np.empty_like(matrix)
    lengths = np.array([rows])
    with (
        SprintInstancePool(
            sprint_exec_path=[sys.executable, "-m", "shmbridge.cli.null_sprint"],
            use_python_segment_order=False,
            ring_size=2 * matrix.nbytes + (1 << 20),
        ) as pool,
        subprocess.Popen(
            [sys.executable, "-m", "shmbridge.cli.pipe_echo", str(matrix.nbytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C interrupts only this process, which then closes the pipes
        ) as echo,
    ):
        # Popen's types do not say that its pipes exist and are buffered.
        to_echo, from_echo = cast("tuple[BufferedWriter, BufferedReader]", (echo.stdin, echo.stdout))

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
            to_echo.write(matrix.data)
            to_echo.flush()
            if from_echo.readinto(error_signal.data.cast("B")) < matrix.nbytes:
                raise ShmbridgeError("the echo process ended before it answered [bench-failed]")
            return float(error_signal[0, 0, 0])

        yield {"in place": in_place, "batch": batch, "pipe": through_pipe}
