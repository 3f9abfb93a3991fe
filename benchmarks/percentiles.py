"""Percentiles of durations. A mean would mix typical values with outliers of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np

Durations = Union[Sequence[int], np.ndarray[Any, np.dtype[Any]]]


def summarise(nanoseconds: Durations) -> dict[str, Any]:
    """Return p50, p90, p99 and minimum in seconds, and the count, of durations in nanoseconds."""
    values = np.asarray(nanoseconds, np.float64) / 1e9
    p50, p90, p99 = np.percentile(values, [50, 90, 99]).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "min": float(values.min()), "count": len(values)}
