"""What the user sees: a progress bar, a line for each epoch, a table and a picture at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shmbridge import SprintInstancePool

from .data import Corpus
from .train import Epoch

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot


def progress_bar(console: Console) -> Progress:
    """A bar over the segments of all epochs; it goes away at the end."""
    return Progress(
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("segments"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def data_line(corpus: Corpus) -> str:
    """What is trained on."""
    held_out = " and ".join(f"{len(segments)} of {name}" for name, segments in corpus.held_out.items())
    return f"{len(corpus.train)} segments to train on, held out {held_out}, {len(corpus.labels)} labels"


def epoch_header() -> str:
    """What stands above the lines of the epochs."""
    return "[dim]epoch  loss/frame  held out: loss/frame  label errors  segments/s  in the exchange[/]"


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One line."""
    return (
        f"{epoch.number:2d}/{epochs:<2d}"
        f"{epoch.train_loss:12.4f}"
        f"{epoch.held_out_loss:22.4f}"
        f"[bold]{epoch.label_error_rate:14.1%}[/]"
        f"{epoch.segments_per_second:12.0f}"
        f"{epoch.exchange_share:17.0%}"
    )


def summary(pool: SprintInstancePool, exchange_seconds: float, last: Epoch, total_seconds: float) -> Table:
    """What crossed the bridge, and what came of it."""
    crossed = pool.stats()
    answered = crossed.segments + crossed.skipped
    table = Table(title="What crossed the bridge", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("Sprint children", f"{pool.num_instances}")
    table.add_row("segments, training and held out", f"{answered}")
    table.add_row("  discarded by Sprint", f"{crossed.skipped}")
    table.add_row("posteriors", f"{crossed.posteriors_bytes / 1e6:.1f} MB")
    table.add_row("error signals", f"{crossed.error_signal_bytes / 1e6:.1f} MB")
    table.add_row("time in the exchange, the criterion included", f"{exchange_seconds:.1f} s")
    table.add_row("  for each segment", f"{1e3 * exchange_seconds / max(answered, 1):.2f} ms")
    table.add_row("time of the whole training", f"{total_seconds:.1f} s", end_section=True)
    for name, rate in last.label_error_rates.items():
        table.add_row(f"label errors held out, {name}", f"{rate:.1%}")
    table.add_row("label errors held out", f"{last.label_error_rate:.1%}")
    return table


def draw(history: Sequence[Epoch], path: Path) -> None:
    """Write the learning curve as PNG."""
    numbers = [epoch.number for epoch in history]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")

    left.plot(
        numbers, [epoch.train_loss for epoch in history], label="training (distorted features, dropout)"
    )
    left.plot(numbers, [epoch.held_out_loss for epoch in history], label="held out")
    # Only a criterion that is no sequence criterion, for tests, gives losses without a logarithm.
    scale = "log" if all(min(epoch.train_loss, epoch.held_out_loss) > 0 for epoch in history) else "linear"
    left.set(xlabel="epoch", ylabel="loss per frame, nats", yscale=scale, title="Loss from Sprint")
    left.legend()

    right.plot(
        numbers, [100 * epoch.label_error_rate for epoch in history], color="black", label="all held out"
    )
    # The first epochs stand near 100 %; the picture is of what comes after.
    top = min(100.0, max(10.0, 800 * history[-1].label_error_rate))
    for name in history[0].label_error_rates:
        rates = [100 * epoch.label_error_rates[name] for epoch in history]
        right.plot(numbers, rates, linewidth=1, linestyle="--", label=name)
    right.set(
        xlabel="epoch",
        ylabel="label error rate, %",
        ylim=(0, top),
        title=f"Held out: {history[-1].label_error_rate:.1%} at the end",
    )
    right.legend()

    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
