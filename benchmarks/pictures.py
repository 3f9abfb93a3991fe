"""The results as pictures.

    python -m benchmarks.pictures [FOLDER] [--out FOLDER]

The first folder has results.json and rasr.json, by default those that docs/benchmarks.md shows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from . import theme
from .theme import PLAIN, Results

_HERE = Path(__file__).resolve().parent
_COLOURS = {
    "in_place": theme.DARK_BLUE,
    "batch_out": theme.BLUE,
    "batch": theme.LIGHT_BLUE,
    "returnn_pipe": theme.RED,
    "returnn_shared_memory": theme.LIGHT_RED,
    "raw_pipe": theme.ORANGE,
    "queue_shared_memory": theme.GREEN,
    "zeromq": theme.PURPLE,
    "iceoryx2": theme.TEAL,
    "iceoryx2_spinning": theme.LIGHT_TEAL,
    "iceoryx2_address": theme.LIGHT_TEAL,
}
_FLOORS = ("copy", "semaphore", "semaphore_spinning", "pipe_64", "iceoryx2_address")
_COMPARED_TO_FLOORS = ("in_place", "batch_out")
_REASON_LENGTH = 80


def write(results: Results, folder: Path) -> list[Path]:
    """Draw each part of the results of `python -m benchmarks`. Return the paths of the pictures."""
    pictures = {}
    if "exchange" in results:
        peers = [name for name in results["peers"] if name not in _FLOORS]
        floors = [name for name in results["peers"] if name in _FLOORS + _COMPARED_TO_FLOORS]
        pictures["latency.svg"] = _draw_latency(
            results, peers, "Round trip of a segment with a null criterion"
        )
        pictures["floors.svg"] = _draw_latency(
            results, floors, "Round trip of a segment, compared with lower bounds"
        )
    if "pools" in results:
        pictures["throughput.svg"] = _draw_throughput(results)
    if "growth" in results:
        pictures["growth.svg"] = _draw_growth(results)
    for name, figure in pictures.items():
        theme.save(figure, folder / name)
    return [folder / name for name in pictures]


def write_rasr(results: Results, folder: Path) -> Path:
    """Draw the results of `python -m benchmarks.rasr`. Return the path of the picture."""
    theme.save(_draw_rasr(results), folder / "rasr.svg")
    return folder / "rasr.svg"


def _draw_latency(results: Results, names: list[str], title: str) -> Any:
    """Draw p50 over size, both logarithmic. Peers that could not run are listed below with the reason."""
    figure, axes = pyplot.subplots(figsize=(6, 4.8))
    ends: list[tuple[float, float, str, str]] = []
    notes: list[str] = []
    for name in names:
        peer = results["peers"][name]
        points = [
            (of_size["bytes"] / 1e6, of_size["results"][name]["p50"] * 1e3)
            for of_size in results["exchange"]
            if "p50" in of_size["results"][name]
        ]
        notes += _not_run(results, name)
        if not points:
            continue
        colour = _COLOURS.get(name, theme.MUTED)
        ours = peer["kind"] == "ours"
        axes.loglog(
            *zip(*points),
            color=colour,
            linewidth=2.6 if ours else 1.3,
            linestyle="dashed" if name in _FLOORS else "solid",
            marker="o",
            markersize=4.5 if ours else 3,
            zorder=2 if ours else 3,  # a thin line is visible on a thick one
        )
        ends.append((*points[-1], peer["title"], colour))
    sizes = [of_size["bytes"] / 1e6 for of_size in results["exchange"]]
    axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_xlabel("matrix in MB (float32, in each direction)")
    axes.set_ylabel("round trip in ms (p50)")
    axes.set_title(title)
    axes.grid(True, which="major")
    theme.label_lines(axes, ends)
    theme.add_footer(figure, results, *notes)
    return figure


def _not_run(results: Results, name: str) -> Iterator[str]:
    """Yield one line if the peer could not run at some size."""
    for of_size in results["exchange"]:
        reason = of_size["results"][name].get("unavailable")
        if reason:
            yield f"not run: {results['peers'][name]['title']}: {reason[:_REASON_LENGTH]}"
            return


def _draw_throughput(results: Results) -> Any:
    """Draw segments per second as bars: the share of the ideal, and the rate without a criterion."""
    rows = results["pools"]
    children = sorted({row["children"] for row in rows})
    colours = dict(zip(children, (theme.LIGHT_BLUE, theme.DARK_BLUE, theme.GREEN, theme.ORANGE)))
    timed = [row for row in rows if row["ideal"]]
    free = [row for row in rows if not row["ideal"]]
    ratios = [max(len(part), 1) for part in (timed, free)]
    figure, (share, rate) = pyplot.subplots(2, 1, figsize=(6, 4.6), height_ratios=ratios)
    for axes, part, unit in ((share, timed, "ideal"), (rate, free, None)):
        groups = list(dict.fromkeys((row["milliseconds"], row["criterion"]) for row in part))
        height = 0.8 / len(children)
        for row in part:
            group = groups.index((row["milliseconds"], row["criterion"]))
            speed = row["segments_per_second"]
            value = 100 * speed / row["ideal"] if unit else speed
            place = group + (children.index(row["children"]) - (len(children) - 1) / 2) * height
            axes.barh(place, value, height * 0.9, color=colours.get(row["children"], theme.MUTED))
            text = f" {value:.0f} %, {speed:.0f}/s" if unit else f" {speed:.0f}/s"
            axes.text(value, place, text, verticalalignment="center", fontsize=7.5)
        names = {"sleep": "sleeping", "busy": "busy", "none": ""}
        labels = [
            f"{duration:g} ms, {names[kind]}" if duration else "no criterion" for duration, kind in groups
        ]
        axes.set_yticks(range(len(groups)), labels)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.margins(x=0.25)
    share.set_xlim(0, 130)
    share.set_xticks(range(0, 101, 20))
    share.set_xlabel("segments per second, in % of the ideal (children / duration)")
    rate.set_xlabel("segments per second (p50)")
    share.set_title("Throughput with 0.4 MB segments")
    handles = [
        Patch(color=colours.get(n, theme.MUTED), label=f"{n} child" if n == 1 else f"{n} children")
        for n in children
    ]
    share.legend(
        handles=handles, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, frameon=False
    )
    figure.tight_layout()
    theme.add_footer(figure, results)
    return figure


def _draw_rasr(results: Results) -> Any:
    """Draw the time of a segment with RASR's criterion as bars; the part that a bridge adds stands out."""
    ways = [way for way in results["ways"].values() if "unavailable" not in way]
    groups = dict.fromkeys(way["alone"] for way in ways)
    figure, axes = pyplot.subplots(figsize=(6, 0.42 * len(ways) + 1))
    labels, place = [], 0.0
    for alone in groups:
        members = sorted(
            (way for way in ways if way["alone"] == alone), key=lambda way: way["seconds"]["p50"]
        )
        for way in members:
            total, added = (1e3 * way[key]["p50"] for key in ("seconds", "added"))
            is_alone = way["title"] == results["ways"][alone]["title"]
            colour = theme.DARK_BLUE if way["title"].startswith("shmbridge") else theme.RED
            axes.barh(place, total - max(added, 0), 0.7, color=theme.GRID)
            if not is_alone:
                axes.barh(place, max(added, 0), 0.7, left=total - max(added, 0), color=colour)
            text = f" {total:.0f} ms"
            if not is_alone:
                text += f"  ({added:+.0f} ms, factor {way['ratio']['p50']:.3g})"
            axes.text(total, place, text, verticalalignment="center", fontsize=8)
            labels.append((place, way["title"]))
            place += 1
        place += 0.5
    axes.set_yticks([at for at, _ in labels], [title for _, title in labels])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.5)
    axes.grid(True, axis="x")
    axes.set_xlabel("time of a segment in ms (p50)")
    axes.set_title("Time that the exchange adds to RASR's CTC criterion")
    figure.tight_layout()
    settings = results["settings"]
    theme.add_footer(
        figure,
        results,
        *(
            f"not run: {w['title']}: {w['unavailable']}"
            for w in results["ways"].values()
            if "unavailable" in w
        ),
        f"{settings['frames']} frames x {settings['labels']} labels, {settings['segments']} segments per "
        f"batch, {settings['rounds']} rounds, one child; added time: p50 over the rounds",
    )
    return figure


def _draw_growth(results: Results) -> Any:
    """Draw cost and memory over many exchanges, and cost over sizes."""
    figure, (cost, memory, sizes) = pyplot.subplots(1, 3, figsize=(12, 3.6))
    over_exchanges = results["growth"]["over_exchanges"]
    chunks = over_exchanges["chunks"]
    counts = [chunk["exchanges"] for chunk in chunks]
    for key, colour in (("p50", theme.DARK_BLUE), ("p90", theme.BLUE), ("p99", theme.LIGHT_BLUE)):
        cost.plot(counts, [chunk["seconds"][key] * 1e6 for chunk in chunks], color=colour, label=key)
    cost.set_ylabel("one exchange in place, in µs")
    cost.set_title(f"Cost: {over_exchanges['rows']} x {over_exchanges['columns']}")
    for process, field, label, colour in (
        ("parent", "private", "parent", theme.DARK_BLUE),
        ("child", "private", "child", theme.GREEN),
        ("child", "objects", "shared memory", theme.ORANGE),
    ):
        memory.plot(counts, [chunk[process][field] / 1e6 for chunk in chunks], color=colour, label=label)
    memory.set_ylabel("MB")
    memory.set_title("Memory")
    for axes in (cost, memory):
        axes.set_ylim(bottom=0)
        axes.set_xlabel("exchanges")
        axes.ticklabel_format(axis="x", style="plain")
        axes.locator_params(axis="x", nbins=4)
    rows = results["growth"]["over_sizes"]
    megabytes = [row["bytes"] / 1e6 for row in rows]
    for name, label in (("in_place", "in place"), ("batch_out", "get_batch… with out=")):
        milliseconds = [row[name]["p50"] * 1e3 for row in rows]
        sizes.loglog(megabytes, milliseconds, "o-", color=_COLOURS[name], label=label)
    for axis in (sizes.xaxis, sizes.yaxis):
        axis.set_major_formatter(PLAIN)
        axis.set_minor_formatter(NullFormatter())
    sizes.set_xlabel("matrix in MB")
    sizes.set_ylabel("round trip in ms (p50)")
    sizes.set_title("Cost over size")
    for axes in (cost, memory, sizes):
        axes.grid(True)
        axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    theme.add_footer(figure, results)
    return figure


def main() -> int:
    """Draw stored results again, and print the paths of the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description="Draw stored results.")
    parser.add_argument("folder", type=Path, nargs="?", default=_HERE / "results", help="with the results")
    parser.add_argument(
        "--out", type=Path, default=_HERE.parent / "docs" / "pictures", help="for the pictures"
    )
    options = parser.parse_args()
    for name, draw in (("results.json", write), ("rasr.json", write_rasr)):
        path = options.folder / name
        if path.exists():
            print(draw(json.loads(path.read_text("utf-8")), options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
