"""The results as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullFormatter

Results = dict[str, Any]

# One hue for a family; what is ours is thick, floors are dotted.
_COLOURS = {
    "in_place": "#0b3c8c",
    "batch_out": "#1f77e0",
    "batch": "#7ab0f0",
    "returnn_pipe": "#b2182b",
    "returnn_shared_memory": "#ef6a5a",
    "raw_pipe": "#e08a00",
    "queue_shared_memory": "#2a8f3c",
    "zeromq": "#8e44ad",
    "iceoryx2": "#12908e",
    "iceoryx2_spinning": "#5cc4bf",
    "iceoryx2_address": "#b5e0dc",
}
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.01 and not 10 to the power of -2
_FLOOR = "#777777"
_FLOOR_STYLES = {
    "copy": (0, (1, 1)),
    "semaphore": (0, (4, 2)),
    "semaphore_spinning": (0, (4, 2, 1, 2)),
    "pipe_64": (0, (2, 4)),
}


def write(results: Results, folder: Path) -> list[Path]:
    """Write a picture for each part that was measured. Returns their paths."""
    written = []
    for part, name, draw in (
        ("exchange", "latency.png", _draw_latency),
        ("pools", "throughput.png", _draw_throughput),
        ("growth", "growth.png", _draw_growth),
    ):
        if part in results:
            figure = draw(results)
            path = folder / name
            figure.savefig(path, dpi=144, bbox_inches="tight")
            pyplot.close(figure)
            written.append(path)
    return written


def _draw_latency(results: Results) -> Any:
    """p50 over size, log-log, with all peers; those that could not run are in the legend with the reason."""
    figure, axes = pyplot.subplots(figsize=(7.5, 5.5))
    for name, peer in results["peers"].items():
        points = [
            (of_size["bytes"] / 1e6, of_size["results"][name]["p50"] * 1e3)
            for of_size in results["exchange"]
            if "p50" in of_size["results"][name]
        ]
        label = peer["title"]
        if len(points) < len(results["exchange"]):
            label += "\n   not run" + ("" if not points else " at all sizes") + f": {_reason(results, name)}"
        kind = peer["kind"]
        axes.loglog(
            [x for x, _ in points],
            [y for _, y in points],
            marker=None if kind == "floor" else "o",
            markersize=5 if kind == "ours" else 4,
            color=_COLOURS.get(name, _FLOOR),
            linewidth={"ours": 2.8, "peer": 1.4, "floor": 1.2}[kind],
            linestyle=_FLOOR_STYLES.get(name, "solid") if kind == "floor" else "solid",
            label=label,
            zorder=2 if kind == "ours" else 3,  # a thin line shows on a thick one
        )
    sizes = [of_size["bytes"] / 1e6 for of_size in results["exchange"]]
    axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.set_xlabel("matrix, MB (float32, each way)")
    axes.set_ylabel("round trip, ms (p50)")
    axes.set_title("Posteriors to a child, error signal back: null criterion, one child", loc="left")
    axes.grid(True, which="major", color="#dddddd")
    axes.grid(True, which="minor", color="#f2f2f2")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    _sign(figure, results)
    return figure


def _reason(results: Results, name: str) -> str:
    for of_size in results["exchange"]:
        text = str(of_size["results"][name].get("unavailable", ""))
        if text:
            return text if len(text) <= 48 else text[:47] + "…"
    return "no reason is known"


def _draw_throughput(results: Results) -> Any:
    """Segments per second over the number of children, beside the ideal."""
    figure, axes = pyplot.subplots(figsize=(7.5, 5))
    rows = results["pools"]
    durations = sorted({row["milliseconds"] for row in rows})
    colours = dict(zip(durations, ("#444444", "#1f77e0", "#2a8f3c", "#b2182b", "#8e44ad")))
    for milliseconds in durations:
        ideal = {row["children"]: row["ideal"] for row in rows if row["milliseconds"] == milliseconds}
        if all(ideal.values()):
            axes.plot(
                list(ideal),
                list(ideal.values()),
                color=colours.get(milliseconds),
                linewidth=1,
                linestyle="dotted",
                label=f"{milliseconds:g} ms: ideal",
            )
        for kind, marker in (("none", "o"), ("sleep", "o"), ("busy", "s")):
            points = [
                (row["children"], row["segments_per_second"], row["ideal"])
                for row in rows
                if (row["milliseconds"], row["criterion"]) == (milliseconds, kind)
            ]
            if not points:
                continue
            name = {"none": "no criterion", "sleep": "sleeping", "busy": "busy"}[kind]
            axes.plot(
                [x for x, _, _ in points],
                [y for _, y, _ in points],
                color=colours.get(milliseconds),
                marker=marker,
                fillstyle="none" if kind == "busy" else "full",
                linewidth=0.8,
                label=f"{milliseconds:g} ms: {name}",
            )
            above = kind != "busy"
            for x, y, at_best in points:
                axes.annotate(
                    f"{y / at_best:.0%}" if at_best else f"{y:.0f}/s",
                    (x, y),
                    textcoords="offset points",
                    xytext=(8, 5 if above else -11),
                    fontsize=7,
                    color=colours.get(milliseconds),
                )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.set_xticks(sorted({row["children"] for row in rows}))
    axes.margins(x=0.15)
    axes.set_xlabel("children")
    axes.set_ylabel("segments per second (p50)")
    axes.set_title("Segments of 0.4 MB, by how long their criterion takes, and % of the ideal", loc="left")
    axes.grid(True, which="major", color="#dddddd")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    _sign(figure, results)
    return figure


def _draw_growth(results: Results) -> Any:
    """Cost and memory over many exchanges, and cost over sizes."""
    figure, (cost, memory, sizes) = pyplot.subplots(1, 3, figsize=(14, 4))
    over_exchanges = results["growth"]["over_exchanges"]
    chunks = over_exchanges["chunks"]
    counts = [chunk["exchanges"] for chunk in chunks]
    for key, colour in (("p50", "#0b3c8c"), ("p90", "#1f77e0"), ("p99", "#7ab0f0")):
        cost.plot(counts, [chunk["seconds"][key] * 1e6 for chunk in chunks], color=colour, label=key)
    cost.set_ylim(bottom=0)
    cost.set_ylabel("one exchange in place, us")
    cost.set_title(f"Cost: {over_exchanges['rows']} x {over_exchanges['columns']}", loc="left")
    for who, field, label, colour in (
        ("parent", "private", "parent", "#0b3c8c"),
        ("child", "private", "child", "#2a8f3c"),
        ("child", "objects", "shared memory", "#e08a00"),
    ):
        memory.plot(counts, [chunk[who][field] / 1e6 for chunk in chunks], color=colour, label=label)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("MB")
    memory.set_title("Memory", loc="left")
    for axes in (cost, memory):
        axes.set_xlabel("exchanges")
        axes.ticklabel_format(axis="x", style="plain")
        axes.locator_params(axis="x", nbins=4)
    rows = results["growth"]["over_sizes"]
    megabytes = [row["bytes"] / 1e6 for row in rows]
    for name, label, colour in (
        ("in_place", "in place", "#0b3c8c"),
        ("batch_out", "get_batch… with out=", "#1f77e0"),
    ):
        sizes.loglog(megabytes, [row[name]["p50"] * 1e3 for row in rows], "o-", color=colour, label=label)
    for axis in (sizes.xaxis, sizes.yaxis):
        axis.set_major_formatter(_PLAIN)
        axis.set_minor_formatter(NullFormatter())
    sizes.set_xlabel("matrix, MB")
    sizes.set_ylabel("round trip, ms (p50)")
    sizes.set_title("Cost over size", loc="left")
    for axes in (cost, memory, sizes):
        axes.grid(True, color="#dddddd")
        axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    _sign(figure, results)
    return figure


def _sign(figure: Any, results: Results) -> None:
    machine = results["machine"]
    text = (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"numpy {machine['packages']['numpy']}, shmbridge {machine['shmbridge']} ({machine['commit']}), "
        f"{results['load']['started'][:10]}"
    )
    figure.text(0.01, -0.04, text, fontsize=6.5, color="#777777")
