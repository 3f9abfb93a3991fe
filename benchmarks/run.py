"""One run: all parts, one after the other, as one result."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import exchange, growth, idle, machine, pools, targets
from .peers import ENTRIES
from .progress import Progress
from .settings import Settings

SCHEMA_VERSION = 1  # of the JSON


def measure(settings: Settings, progress: Progress) -> dict[str, Any]:
    """Measure the parts that the settings name.

    Returns:
        The content of results.json: schema_version, machine, load, settings, peers, one key for each part,
        targets.
    """
    load = machine.Load()
    entries = [entry for entry in ENTRIES if not settings.peers or entry.name in settings.peers]
    results: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "machine": machine.describe(),
        "settings": dataclasses.asdict(settings),
        "peers": {
            entry.name: {"title": entry.title, "kind": entry.kind, "in_place": entry.in_place}
            for entry in entries
        },
    }
    if "exchange" in settings.parts:
        results["exchange"] = exchange.measure(
            settings.sizes, entries, settings.rounds, settings.block_seconds, progress
        )
    if "pools" in settings.parts:
        results["pools"] = pools.measure(
            settings.criteria_ms, settings.children, settings.batch, settings.pool_seconds, progress
        )
    if "growth" in settings.parts:
        results["growth"] = {
            "over_exchanges": growth.over_exchanges(settings.exchanges, settings.chunks, progress),
            "over_sizes": growth.over_sizes(
                settings.growth_bytes, settings.growth_rounds, settings.growth_block_seconds, progress
            ),
        }
    if "idle" in settings.parts:
        results["idle"] = idle.measure(settings.idle_seconds, progress)
    results["load"] = load.describe()
    results["targets"] = targets.evaluate(results)
    return results
