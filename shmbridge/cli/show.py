"""Tables and progress bars, with rich."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Optional

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shmbridge.units import format_bytes, format_duration

from .checks import FAILED, OK, WARNING, Check

if TYPE_CHECKING:
    from shmbridge.parent import ChildStatistics, PoolStatistics
    from shmbridge.parent.stats_socket import Pool

    from .exchange import Figures
    from .training import Epoch

__all__ = ["bench_figures", "demo_epochs", "demo_result", "doctor_checks", "pool_tables", "progress"]

_FILE_WIDTH = 110  # if the output is not a terminal
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CURVE_WIDTH, _CURVE_HEIGHT = 40, 4
_CHECK_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
_STATE_STYLES = {"ready": "green", "starting": "yellow"}


def _console(*, error: bool = False) -> Console:
    console = Console(stderr=error, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on standard error. Yield a function to call before each step with its description."""
    console = _console(error=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}[/]"),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=False,  # a refresh thread would disturb the measurement
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=total, completed=-1, detail="")

        def advance(detail: str) -> None:
            bar.update(task, advance=1, detail=escape(detail), refresh=True)

        yield advance


# --- demo


def demo_epochs(epochs: Iterable[Epoch], total: int) -> list[Epoch]:
    """Show each epoch when it is finished, and return all of them."""
    console = _console()
    console.print("[dim]epoch  loss per frame  label errors[/]")
    history = []
    with progress("training", total) as advance:
        advance("")
        for epoch in epochs:
            console.print(
                f"{epoch.number:5d}{epoch.loss_per_frame:16.4f}{100 * epoch.label_error_rate:12.1f} %"
            )
            advance("")
            history.append(epoch)
    return history


def demo_result(history: Sequence[Epoch], stats: PoolStatistics) -> None:
    """Show the learning curves and the pool's statistics."""
    console = _console()
    console.print()
    for label, values in (
        ("loss per frame", [epoch.loss_per_frame for epoch in history]),
        ("label errors", [epoch.label_error_rate for epoch in history]),
    ):
        for number, line in enumerate(_curve(values)):
            console.print(f"{'' if number else label:>16}  {line}")
    console.print()
    console.print("[bold]Statistics of the pool[/]", _pool_table(stats), sep="\n")


def _curve(values: Sequence[float]) -> Iterator[str]:
    """Yield the lines of a bar chart, from 0 to the largest value."""
    if len(values) > _CURVE_WIDTH:
        values = [values[i * len(values) // _CURVE_WIDTH] for i in range(_CURVE_WIDTH)]
    heights = [8 * _CURVE_HEIGHT * value / max(*values, 1e-9) for value in values]
    for below in reversed(range(0, 8 * _CURVE_HEIGHT, 8)):
        yield "".join(_BLOCKS[min(max(round(height - below), 0), 8)] for height in heights)


# --- bench


def bench_figures(figures: Sequence[Figures], ways: Mapping[str, str]) -> None:
    """Show a table of durations, and explain the ways."""
    table = Table(title="Exchange of one segment with a Sprint that computes nothing")
    for column in ("time x label", "size", "way", "p50", "p90", "p99", "exchanges"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for (rows, columns), group in groupby(figures, lambda each: (each.rows, each.columns)):
        table.add_section()
        head = [f"{rows} x {columns}", format_bytes(4 * rows * columns)]
        for each in group:
            durations = (format_duration(value) for value in (each.p50, each.p90, each.p99))
            table.add_row(*head, each.way, *durations, str(each.count))
            head = ["", ""]
    console = _console()
    console.print(table)
    for way, meaning in ways.items():
        console.print(f"[dim]{way}: {meaning}[/]")


# --- doctor


def doctor_checks(checks: Iterable[Check]) -> list[Check]:
    """Show each check when it is done, and return all of them."""
    console = _console()
    done = []
    for check in checks:
        done.append(check)
        console.print(
            Text.assemble((f"{check.status:>8}", _CHECK_STYLES[check.status]), "  ", (check.name, "bold"))
        )
        for text, style in ((check.found, ""), (check.advice and f"→ {check.advice}", "yellow")):
            for line in text.splitlines():
                console.print(Padding(Text(line, style, overflow="fold"), (0, 0, 0, 10), expand=False))
    warnings, failed = (sum(check.status == status for check in done) for status in (WARNING, FAILED))
    console.print(f"{len(done)} checks, warnings: {warnings}, failed: {failed}")
    return done


# --- stats


def pool_tables(states: Iterable[list[Pool]], *, live: bool) -> None:
    """Show the pools of each state: in place if `live`, which needs a terminal, else one after the other."""
    console = _console()
    before: dict[str, PoolStatistics] = {}
    with Live(console=console, auto_refresh=False) if live else contextlib.nullcontext() as screen:
        for pools in states:
            tables = [_pool(pool, before.get(pool.name)) for pool in pools]
            before = {pool.name: pool.statistics for pool in pools}
            if screen is None:
                console.print(*tables, sep="\n")
            else:
                screen.update(Group(*tables), refresh=True)


def _pool(pool: Pool, before: Optional[PoolStatistics]) -> RenderableType:
    title = Text(f"process {pool.pid}: {pool.executable}", "bold", overflow="fold")
    return Group(title, _pool_table(pool.statistics, before), _children(pool.statistics.children))


def _pool_table(stats: PoolStatistics, before: Optional[PoolStatistics] = None) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")

    def add_count(label: str, field: str) -> None:
        count = getattr(stats, field)
        table.add_row(label, str(count))
        if before is not None and stats.seconds > before.seconds:
            rate = (count - getattr(before, field)) / (stats.seconds - before.seconds)
            table.add_row("  per second, since the last refresh", f"{rate:.1f}")

    def add_share(label: str, seconds: float) -> None:
        table.add_row(label, f"{format_duration(seconds)} ({seconds / max(stats.seconds, 1e-9):.0%})")

    table.add_row("Sprint children", str(len(stats.children)))
    add_count("segments", "segments")
    table.add_row("  skipped by Sprint", str(stats.skipped))
    table.add_row("  failed", str(stats.failed))
    if stats.automata:
        table.add_row("automata", str(stats.automata))
    if stats.scored:
        add_count("segments scored", "scored")
        table.add_row("  frames", str(stats.scored_frames))
    table.add_row("posteriors sent", format_bytes(stats.posteriors_bytes))
    table.add_row("error signals received", format_bytes(stats.error_signal_bytes))
    table.add_row("time since the start", format_duration(stats.seconds))
    add_share("  waiting for Sprint", stats.wait_seconds)
    add_share("  copying", stats.copy_seconds)
    if stats.score_seconds:
        add_share("  in the score function", stats.score_seconds)
    add_share("  starting Sprint", stats.start_seconds)
    table.add_row("restarts", str(stats.restarts))
    return table


def _children(children: Sequence[ChildStatistics]) -> Table:
    table = Table()
    scores = ["scored"] if any(each.scored for each in children) else []
    for column in ("pid", "state", "answered", *scores, "in flight", "restarts"):
        table.add_column(column, justify="left" if column == "state" else "right")
    table.add_column("ring to Sprint")
    table.add_column("ring from Sprint")
    for each in children:
        table.add_row(
            str(each.pid),
            Text(each.state, _STATE_STYLES.get(each.state, "red")),
            str(each.answered),
            *([str(each.scored)] if scores else []),
            str(each.in_flight),
            str(each.restarts),
            _fill(each.posteriors_used, each.ring_size),
            _fill(each.error_signals_used, each.ring_size),
        )
    return table


def _fill(used: int, capacity: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=max(capacity, 1), completed=used, width=12), format_bytes(used))
    return grid
