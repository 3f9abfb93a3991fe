"""The results as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from rich import box
from rich.markup import escape
from rich.table import Table

Results = dict[str, Any]


def write_json(results: Results, path: Path) -> None:
    """Write the results."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def tables(results: Results) -> Iterator[Any]:
    """Yield the tables to print: the machine, each part, the targets."""
    yield _machine_lines(results)
    for of_size in results.get("exchange", []):
        yield _exchange_table(of_size, results["peers"])
    if "pools" in results:
        yield _pools_table(results["pools"])
    if "growth" in results:
        yield _growth_over_exchanges_table(results["growth"]["over_exchanges"])
        yield _growth_over_sizes_table(results["growth"]["over_sizes"])
    if "idle" in results:
        yield _idle_line(results["idle"])
    yield _targets_table(results["targets"])


def duration(seconds: float) -> str:
    """Return a duration with its unit and about three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError("not reached")


def bytes_text(count: float) -> str:
    """Return a size in MB, or in kB if it is below 0.1 MB."""
    return f"{count / 1e6:.3g} MB" if count >= 1e5 else f"{count / 1e3:.3g} kB"


def _machine_lines(results: Results) -> str:
    machine, load = results["machine"], results["load"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return escape(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {machine['kernel']}, {machine['libc']}\n"
        f"Python {machine['python']}, shmbridge {machine['shmbridge']} ({machine['commit']}), {packages}\n"
        f"{load['duration_seconds']:.0f} s; other processes used {load['used_by_others']:.0%} of the cores, "
        f"{load['stolen']:.0%} were stolen; load {load['load_before'][0]:.1f} before, "
        f"{load['load_after'][0]:.1f} after"
    )


def _exchange_table(of_size: Results, peers: Results) -> Table:
    results = of_size["results"]
    table = _table(
        f"exchange of {of_size['rows']} x {of_size['columns']}, {bytes_text(of_size['bytes'])}, one child",
        "way",
        "p50",
        "p90",
        "p99",
        "round trips",
        "over shmbridge",
    )
    not_run = []
    for name, result in results.items():
        title = escape(peers[name]["title"])
        if "unavailable" in result:
            table.add_row(title, "[yellow]not run[/]")
            not_run.append(f"{title}: [yellow]not run: {escape(result['unavailable'])}[/]")
            continue
        ours = results.get("in_place" if peers[name]["in_place"] else "batch_out", {}).get("p50")
        style = {"ours": "bold", "floor": "dim", "peer": ""}[peers[name]["kind"]]
        ratio = f"{result['p50'] / ours:.3g}" if ours else ""
        figures = [duration(result[key]) for key in ("p50", "p90", "p99")]
        table.add_row(title, *figures, str(result["count"]), ratio, style=style)
    notes = ["over shmbridge: p50 over that of in place or of get_batch… with out=, like for like", *not_run]
    table.caption = "\n".join(notes)
    return table


def _pools_table(rows: list[Results]) -> Table:
    table = _table(
        "pools, segments of 0.4 MB",
        "criterion",
        "children",
        "segments/s",
        "ideal",
        "of the ideal",
        "of children x one",
    )
    for row in rows:
        one = next(
            other["segments_per_second"]
            for other in rows
            if (other["criterion"], other["milliseconds"]) == (row["criterion"], row["milliseconds"])
        )
        rate, ideal = row["segments_per_second"], row["ideal"]
        kind = {"sleep": "sleeping", "busy": "busy", "none": ""}[row["criterion"]]
        table.add_row(
            f"{row['milliseconds']:g} ms {kind}".strip(),
            str(row["children"]),
            f"{rate:.1f}",
            f"{ideal:.1f}" if ideal else "",
            f"{rate / ideal:.1%}" if ideal else "",
            f"{rate / (row['children'] * one):.1%}",
        )
    return table


def _growth_over_exchanges_table(growth: Results) -> Table:
    table = _table(
        f"growth over exchanges in place of {growth['rows']} x {growth['columns']}",
        "after",
        "p50",
        "p90",
        "p99",
        "parent",
        "child",
        "shared memory",
    )
    chunks = growth["chunks"]
    for index in sorted({0, len(chunks) // 4, len(chunks) // 2, 3 * len(chunks) // 4, len(chunks) - 1}):
        chunk = chunks[index]
        table.add_row(
            f"{chunk['exchanges']:,}",
            *(duration(chunk["seconds"][key]) for key in ("p50", "p90", "p99")),
            bytes_text(chunk["parent"]["private"]),
            bytes_text(chunk["child"]["private"]),
            bytes_text(chunk["child"]["objects"]),
        )
    return table


def _growth_over_sizes_table(rows: list[Results]) -> Table:
    table = _table(
        "growth over sizes", "matrix", "in place p50", "p99", "get_batch… with out= p50", "p99", "GB/s"
    )
    for row in rows:
        in_place, batch = row["in_place"], row["batch_out"]
        table.add_row(
            bytes_text(row["bytes"]),
            duration(in_place["p50"]),
            duration(in_place["p99"]),
            duration(batch["p50"]),
            duration(batch["p99"]),
            f"{2 * row['bytes'] / batch['p50'] / 1e9:.2f}",
        )
    return table


def _idle_line(idle: Results) -> str:
    parts = [
        f"{name} {1e3 * idle[name]['cpu_seconds']:.3f} ms of CPU, {idle[name]['switches']} switches"
        for name in ("parent", "child")
    ]
    return f"[bold]idle for {idle['seconds']:g} s:[/] " + "; ".join(parts)


def _targets_table(rows: list[Results]) -> Table:
    table = _table("targets", "ratio", "bound", "measured", "")
    for row in rows:
        verdict = {True: "[green]reached[/]", False: "[red]not reached[/]"}.get(row["reached"])
        bound = ("≤ " if row["comparison"] == "<=" else "≥ ") + f"{row['bound']:g}"
        value = _figure(row["value"]) or ""
        table.add_row(escape(row["what"]), bound, value, verdict or f"[yellow]{escape(row['reason'])}[/]")
    return table


def _figure(value: Optional[float]) -> Optional[str]:
    return None if value is None else f"{value:.3g}"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table
