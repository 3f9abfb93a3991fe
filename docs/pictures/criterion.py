"""Draw criterion-light.svg and criterion-dark.svg: RASR's own criterion, alone and through each exchange.

    python docs/pictures/criterion.py

The figures are those of docs/benchmarks.md ("With RASR's own criterion"), all with the Python layer, which is
the only way that RETURNN's child works with this RASR. tests/docs compares them with that page.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ALONE = 540  # ms a segment: nn-trainer with no parent, Python layer, p50
LABELS, FRAMES = 12000, 1000


class Exchange(NamedTuple):
    """One way to connect a trainer: its row in docs/benchmarks.md, its label here, what it adds (ms, p50)."""

    row: str
    label: str
    added: int
    colour: str


EXCHANGES = (
    Exchange("shmbridge, Python layer", "shmbridge", 15, "#2f7fe0"),
    Exchange("RETURNN, shared memory", "RETURNN, shared memory", 150, "#e07b39"),
    Exchange("RETURNN, pipe + pickle", "RETURNN, pipe", 528, "#c8452f"),
)


def draw(path: Path, text: str, criterion: str) -> None:
    """Write one picture with a transparent background; text and the criterion's bars have these colours."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # Paths in the place of text: it looks the same whatever fonts the reader has.
    settings = {"svg.fonttype": "path", "svg.hashsalt": "shmbridge", "font.size": 12, "text.color": text}
    with pyplot.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(5.6, 3.1))
        for row, exchange in enumerate(EXCHANGES):
            total = ALONE + exchange.added
            axes.barh(row, ALONE, color=criterion, height=0.45)
            axes.barh(row, exchange.added, left=ALONE, color=exchange.colour, height=0.45)
            axes.text(0, row - 0.28, exchange.label, va="bottom")
            axes.text(total + 12, row, f"+ {exchange.added} ms", va="center")
        axes.text(12, 0, f"the criterion alone: {ALONE} ms", va="center", fontsize=11, color="#ffffff")
        title = f"One segment: RASR's CTC, {FRAMES} frames × {LABELS} labels"
        figure.text(0.005, 0.925, title, fontweight="bold")
        axes.set_xlim(0, 1260)
        axes.set_ylim(len(EXCHANGES) - 0.7, -0.75)
        axes.axis("off")
        figure.subplots_adjust(left=0.005, right=0.995, top=0.9, bottom=0)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    draw(here / "criterion-light.svg", text="#24292f", criterion="#6b7785")
    draw(here / "criterion-dark.svg", text="#e6e8eb", criterion="#6b7785")
