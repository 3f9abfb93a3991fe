"""Pools: segments per second with one and several children, compared with the ideal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .percentiles import summarise
from .progress import Progress
from .sprint import open_pool

_ROWS, _COLUMNS = 100, 1000  # 0.4 MB
_MIN_ROUNDS, _MAX_ROUNDS = 3, 60


def criteria(milliseconds: Sequence[float]) -> list[tuple[str, float]]:
    """Return (kind, ms) of each criterion: "none" for a duration of 0, else "sleep" and "busy"."""
    kinds: list[tuple[str, float]] = []
    for duration in milliseconds:
        kinds += [("sleep", duration), ("busy", duration)] if duration else [("none", 0.0)]
    return kinds


def measure(
    milliseconds: Sequence[float], children: Sequence[int], batch: int, seconds: float, progress: Progress
) -> list[dict[str, Any]]:
    """Measure get_batch_loss_and_error_signal with criteria of several durations.

    Args:
        milliseconds: durations of the criterion.
        children: sizes of the pools.
        batch: segments of a batch.
        seconds: approximate time for each criterion.
        progress: shows the progress.

    Returns:
        For each criterion and size of the pool: the seconds of a batch, segments per second, the ideal.
    """
    kinds = criteria(milliseconds)
    progress.begin("pools", len(kinds))
    results = []
    for kind, duration in kinds:
        progress.advance(f"criterion of {duration:g} ms, {kind}")
        results += _measure_criterion(kind, duration, children, batch, seconds)
    return results


def _measure_criterion(
    kind: str, milliseconds: float, children: Sequence[int], batch: int, seconds: float
) -> list[dict[str, Any]]:
    posteriors = np.full((_ROWS, batch, _COLUMNS), -np.log(_COLUMNS), np.float32)  # normalized
    out = np.full_like(posteriors, -1.0)
    lengths = np.full(batch, _ROWS, np.int32)
    tags = [f"corpus/recording/{index}" for index in range(batch)]
    durations: dict[int, list[int]] = {count: [] for count in children}
    with contextlib.ExitStack() as stack:
        pools = {
            count: stack.enter_context(
                open_pool(
                    4 * _ROWS * _COLUMNS,
                    records=4,
                    num_instances=count,
                    criterion=f"{kind}:{milliseconds}" if milliseconds else "",
                )
            )
            for count in children
        }
        for pool in pools.values():
            pool.get_batch_loss_and_error_signal(posteriors, lengths, tags, out=out)
        round_seconds = sum(batch * max(milliseconds, 0.1) / 1e3 / count for count in children)
        rounds = max(_MIN_ROUNDS, min(_MAX_ROUNDS, int(seconds / round_seconds)))
        # The pools take turns, so that other load affects all alike. An idle pool uses no CPU time.
        for _ in range(rounds):
            for count, pool in pools.items():
                start = time.perf_counter_ns()
                pool.get_batch_loss_and_error_signal(posteriors, lengths, tags, out=out)
                durations[count].append(time.perf_counter_ns() - start)
    return [
        {
            "criterion": kind,
            "milliseconds": milliseconds,
            "children": count,
            "batch": batch,
            "seconds_per_batch": (summary := summarise(durations[count])),
            "segments_per_second": batch / summary["p50"],
            "ideal": count / milliseconds * 1e3 if milliseconds else None,
        }
        for count in children
    ]
