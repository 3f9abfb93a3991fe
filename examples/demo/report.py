"""Output of the demonstration: a progress bar, a line per epoch, a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shmbridge import PoolStatistics, SprintInstancePool

from .data import Corpus
from .train import Epoch

matplotlib.use("Agg")  # no display needed
from matplotlib import pyplot

_COLORS = ("black", "tab:red")


def progress_bar(console: Console) -> Progress:
    """Return a progress bar over the segments of all epochs. It disappears at the end."""
    return Progress(
        TextColumn("training"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("segments"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def format_corpus(corpus: Corpus) -> str:
    """Return a line about the data."""
    held_out = ", ".join(f"{len(segments)} with {name}" for name, segments in corpus.held_out.items())
    return f"training: {len(corpus.train)} segments; held out: {held_out}; labels: {len(corpus.labels)}"


EPOCH_HEADER = "[dim]epoch  training: loss/frame  held out: loss/frame  label errors  segments/s  exchange[/]"


def format_epoch(epoch: Epoch, epochs: int) -> str:
    """Return the line of an epoch, aligned with EPOCH_HEADER."""
    return (
        f"{epoch.number:2d}/{epochs:<2d}"
        f"{epoch.train_loss:22.4f}"
        f"{epoch.held_out_loss:22.4f}"
        f"[bold]{epoch.label_error_rate:14.1%}[/]"
        f"{epoch.segments_per_second:12.0f}"
        f"{epoch.exchange_share:10.0%}"
    )


def format_lattices(stats: PoolStatistics) -> str:
    """Return a line about the segments that lattice-processor received."""
    return f"lattice-processor: {stats.segments + stats.skipped} segments, {stats.skipped} skipped"


def summary(
    pool: SprintInstancePool,
    exchange_seconds: float,
    histories: Mapping[str, Sequence[Epoch]],
    total_seconds: float,
) -> Table:
    """Return a table of the data exchanged with nn-trainer, the time and the label error rates."""
    stats = pool.stats()
    num_segments = stats.segments + stats.skipped
    table = Table(title="Exchange with Sprint", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("Sprint children", f"{pool.num_instances}")
    table.add_row("segments (training and held out)", f"{num_segments}")
    table.add_row("  skipped by Sprint", f"{stats.skipped}")
    table.add_row("posteriors sent", f"{stats.posteriors_bytes / 1e6:.1f} MB")
    table.add_row("error signals received", f"{stats.error_signal_bytes / 1e6:.1f} MB")
    table.add_row("time in the exchange (includes the criterion)", f"{exchange_seconds:.1f} s")
    table.add_row("  per segment", f"{1e3 * exchange_seconds / max(num_segments, 1):.2f} ms")
    table.add_row("total time", f"{total_seconds:.1f} s", end_section=True)
    for criterion, history in histories.items():
        last = history[-1]
        title = "held-out label errors" if len(histories) == 1 else criterion
        for name, rate in last.label_error_rates.items():
            table.add_row(f"{title}, {name}", f"{rate:.1%}")
        table.add_row(title, f"{last.label_error_rate:.1%}", end_section=True)
    return table


def draw(histories: Mapping[str, Sequence[Epoch]], path: Path) -> None:
    """Write the learning curves as PNG.

    Args:
        histories: by criterion. All have the same epochs.
        path: the file.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    every_epoch = [epoch for history in histories.values() for epoch in history]
    for color, (criterion, history) in zip(_COLORS, histories.items()):
        numbers = [epoch.number for epoch in history]
        prefix = "" if len(histories) == 1 else f"{criterion}: "
        losses = [epoch.train_loss for epoch in history]
        left.plot(numbers, losses, color, linestyle=":", label=f"{prefix}training (distorted, dropout)")
        left.plot(numbers, [epoch.held_out_loss for epoch in history], color, label=f"{prefix}held out")
        rates = [100 * epoch.label_error_rate for epoch in history]
        label = f"{prefix}all held out, at the end {history[-1].label_error_rate:.1%}"
        right.plot(numbers, rates, color, label=label)
        for style, name in zip(("--", "-."), history[0].label_error_rates):
            rates = [100 * epoch.label_error_rates[name] for epoch in history]
            right.plot(numbers, rates, color, linewidth=1, linestyle=style, label=f"{prefix}{name}")

    # The test criteria "none" and "null" return a loss of 0, which a logarithmic scale cannot show.
    positive = all(min(epoch.train_loss, epoch.held_out_loss) > 0 for epoch in every_epoch)
    scale = "log" if positive else "linear"
    left.set(xlabel="epoch", ylabel="loss per frame (nats)", yscale=scale, title="CTC loss from Sprint")
    # The first epochs are near 100 %. Cut them off, so that the later ones can be read.
    top = min(100.0, max(10.0, 800 * every_epoch[-1].label_error_rate))
    right.set(xlabel="epoch", ylabel="label error rate (%)", ylim=(0, top), title="Held-out label error rate")
    for axes in (left, right):
        axes.legend(fontsize="x-small")
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
