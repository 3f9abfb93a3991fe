"""Targets: ratios within one run, because absolute figures drift on a shared machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]

_SMALL = (100, 1000)
_LARGE = (1000, 12001)


class NotMeasuredError(Exception):
    """The run lacks the figures of a target."""


@dataclass(frozen=True)
class Target:
    """A target.

    Attributes:
        what: name of the ratio.
        at_most: whether the bound is an upper one.
        bound: the bound of the ratio.
        value: computes the ratio from the results.
    """

    what: str
    at_most: bool
    bound: float
    value: Callable[[Results], float]


def evaluate(results: Results) -> list[dict[str, Any]]:
    """Return what, comparison, bound, value and reached of each target; if not measured, a reason instead."""
    evaluated = []
    for target in TARGETS:
        row: dict[str, Any] = {
            "what": target.what,
            "comparison": "<=" if target.at_most else ">=",
            "bound": target.bound,
            "value": None,
            "reached": None,
            "reason": None,
        }
        try:
            row["value"] = value = target.value(results)
            row["reached"] = value <= target.bound if target.at_most else value >= target.bound
        except NotMeasuredError as error:
            row["reason"] = str(error)
        evaluated.append(row)
    return evaluated


def _p50(results: Results, size: tuple[int, int], name: str) -> float:
    for of_size in results.get("exchange", []):
        if (of_size["rows"], of_size["columns"]) == size:
            result = of_size["results"].get(name)
            if result is None:
                raise NotMeasuredError(f"{name} was not among the peers")
            if "unavailable" in result:
                raise NotMeasuredError(f"{name} could not run: {result['unavailable']}")
            return float(result["p50"])
    raise NotMeasuredError(f"the size {size[0]}x{size[1]} was not measured")


def _flat_in_size(results: Results) -> float:
    return _p50(results, _LARGE, "in_place") / _p50(results, _SMALL, "in_place")


def _against_iceoryx2(results: Results) -> float:
    """Return the worst ratio of all sizes."""
    ratios = [
        _p50(results, size, "in_place") / _p50(results, size, "iceoryx2_spinning")
        for size in ((of_size["rows"], of_size["columns"]) for of_size in results.get("exchange", []))
    ]
    if not ratios:
        raise NotMeasuredError("the exchange was not measured")
    return max(ratios)


def _against_copies(results: Results) -> float:
    return _p50(results, _LARGE, "batch_out") / (2 * _p50(results, _LARGE, "copy"))


def _faster_than(peer: str, ours: str, size: tuple[int, int]) -> Callable[[Results], float]:
    return lambda results: _p50(results, size, peer) / _p50(results, size, ours)


def _scaling(kind: str) -> Callable[[Results], float]:
    """Compare two children with twice one child, with a criterion of 10 ms."""

    def value(results: Results) -> float:
        rates = {
            row["children"]: row["segments_per_second"]
            for row in results.get("pools", [])
            if row["criterion"] == kind and row["milliseconds"] == 10
        }
        if not {1, 2} <= set(rates):
            raise NotMeasuredError(f"pools of 1 and 2 with a {kind} criterion of 10 ms were not measured")
        return float(rates[2] / (2 * rates[1]))

    return value


def _idle(results: Results) -> float:
    """Return the share of a core that the busier of parent and child used."""
    idle = results.get("idle")
    if idle is None:
        raise NotMeasuredError("idle was not measured")
    return float(max(idle[name]["cpu_seconds"] for name in ("parent", "child")) / idle["seconds"])


TARGETS = (
    Target("in place, 48 MB over 0.4 MB", True, 1.2, _flat_in_size),
    Target("in place over iceoryx2 spinning, the worst size", True, 0.7, _against_iceoryx2),
    Target("get_batch… with out=, 48 MB, over two np.copyto", True, 1.25, _against_copies),
    Target(
        "RETURNN pipe over get_batch… with out=, 48 MB",
        False,
        40,
        _faster_than("returnn_pipe", "batch_out", _LARGE),
    ),
    Target(
        "RETURNN shared memory over get_batch… with out=, 48 MB",
        False,
        5,
        _faster_than("returnn_shared_memory", "batch_out", _LARGE),
    ),
    Target(
        "RETURNN pipe over get_batch… with out=, 0.4 MB",
        False,
        40,
        _faster_than("returnn_pipe", "batch_out", _SMALL),
    ),
    Target("2 children over twice one, criterion of 10 ms, sleeping", False, 0.95, _scaling("sleep")),
    Target("2 children over twice one, criterion of 10 ms, busy", False, 0.90, _scaling("busy")),
    # A ten-thousandth of a core: a stray wake-up uses less, polling far more.
    Target("idle parent or child, share of a core", True, 1e-4, _idle),
)
