"""The results as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Results = dict[str, Any]

_COLUMNS = ("p50", "p90", "p99", "min", "added p50", "ratio p10", "p50", "p90")


def write_json(results: Results, path: Path) -> None:
    """Write the results."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def lines(results: Results) -> Iterator[str]:
    """Yield the lines to print: the load, each way, the reasons of ways that were not run, the target."""
    settings, load = results["settings"], results["load"]
    yield (
        f"{settings['frames']} x {settings['labels']}, {settings['segments']} segments per batch, "
        f"{settings['rounds']} rounds; other processes used {load['used_by_others']:.0%} of the cores"
    )
    yield "added, ratio: relative to no parent in the same round, with the same control loop or Python layer"
    yield f"{'ms of a segment':28}" + "".join(f"{column:>11}" for column in _COLUMNS)
    for way in results["ways"].values():
        yield f"{way['title']:28}" + "".join(f"{figure:>11}" for figure in _figures(way))
    for way in results["ways"].values():
        if "unavailable" in way:
            yield f"{way['title']}: not run: {way['unavailable']}"
    target = results["target"]
    reached = "reached" if target["reached"] else "not reached"
    yield f"{target['what']}: {target['value']:.3f}; <= {target['bound']}: {reached}"


def _figures(way: Results) -> list[str]:
    if "unavailable" in way:
        return ["not run"]
    milliseconds = [way["seconds"][key] * 1e3 for key in ("p50", "p90", "p99", "min")]
    ratios = [way["ratio"][key] for key in ("p10", "p50", "p90")]
    return [
        *(f"{value:.1f}" for value in milliseconds),
        f"{way['added']['p50'] * 1e3:+.1f}",
        *(f"{ratio:.3f}" for ratio in ratios),
    ]
