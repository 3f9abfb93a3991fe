"""The style of the pictures: SVG for light and dark pages, labels at the lines, a footer with the load."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # needs no display
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

Results = dict[str, Any]

INK, MUTED, GRID = "#1f2328", "#6a737d", "#dfe3e8"
DARK_BLUE, BLUE, LIGHT_BLUE = "#0b3c8c", "#1f77e0", "#7ab0f0"
RED, LIGHT_RED, ORANGE, GREEN, PURPLE = "#b2182b", "#e0604f", "#c77800", "#2a8f3c", "#8e44ad"
TEAL, LIGHT_TEAL = "#12807e", "#3fa8a3"

# The colour of each on a dark page.
_DARK = {
    INK: "#e6edf3",
    MUTED: "#9aa4af",
    GRID: "#3a424c",
    DARK_BLUE: "#8ab8ff",
    BLUE: "#5a9df5",
    LIGHT_BLUE: "#3f77c2",
    RED: "#ff6b76",
    LIGHT_RED: "#e88a7d",
    ORANGE: "#f0a63c",
    GREEN: "#5cc46f",
    PURPLE: "#c48be0",
    TEAL: "#3cc2be",
    LIGHT_TEAL: "#7fd6d1",
}
_LABEL_SIZE = 8
_LABEL_GAP = 11  # points between the baselines of two labels

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.01 instead of a power of 10

pyplot.rcParams.update(
    {
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.axisbelow": True,
        "font.size": 9,
        "grid.color": GRID,
        "svg.hashsalt": "shmbridge",  # equal results give equal files
        "text.color": INK,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    }
)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG whose colours follow the page's colour scheme, and close it."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
    )
    pyplot.close(figure)
    svg = re.sub("|".join(_DARK), lambda colour: f"var(--c{colour[0][1:]}, {colour[0]})", buffer.getvalue())
    dark = "".join(f"--c{light[1:]}:{dark};" for light, dark in _DARK.items())
    style = f"<style>@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    path.write_text(svg.replace("<defs>", f"{style}\n <defs>", 1), encoding="utf-8")


def label_lines(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Write a label at the right end of each line, without overlaps.

    Args:
        axes: with their final limits.
        ends: x, y, text and colour of each line's last point.
    """
    axes.figure.canvas.draw()
    points = 72 / axes.figure.dpi
    ends = sorted(ends, key=lambda end: end[1])
    targets = [axes.transData.transform(end[:2])[1] * points for end in ends]
    places: list[float] = []
    for place in targets:
        places.append(max(place, places[-1] + _LABEL_GAP) if places else place)
    # Centre each group of adjacent labels on the ends of its lines.
    start = 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index] > places[index - 1] + _LABEL_GAP + 1e-6:
            shift = sum(p - w for p, w in zip(places[start:index], targets[start:index])) / (index - start)
            if start:
                shift = min(shift, places[start] - places[start - 1] - _LABEL_GAP)
            places[start:index] = [place - shift for place in places[start:index]]
            start = index
    for (x, y, text, colour), place, target in zip(ends, places, targets):
        axes.annotate(
            text,
            (x, y),
            xytext=(16, place - target),
            textcoords="offset points",
            color=colour,
            fontsize=_LABEL_SIZE,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3},
            annotation_clip=False,
        )


def add_footer(figure: Any, results: Results, *notes: str) -> None:
    """Write the machine, its load by other processes, and notes below the figure."""
    machine, load = results["machine"], results["load"]
    commit = f" ({machine['commit']})" if "commit" in machine else ""
    others = f"{100 * load['used_by_others']:.0f} %"
    lines = [
        *notes,
        f"{load['started'][:10]}; meanwhile other processes used {others} of the cores",
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
        f"numpy {machine['packages']['numpy']}, shmbridge {machine['shmbridge']}{commit}",
    ]
    figure.text(
        0.02, -0.02, "\n".join(lines), fontsize=7, color=MUTED, verticalalignment="top", linespacing=1.5
    )
