"""What is shown to people: tables and bars, with rich."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    from .exchange import Figures
    from .pools import Pool
    from .training import Epoch

__all__ = ["bench_figures", "demo_epochs", "demo_result", "doctor_checks", "pools", "progress"]

_FILE_WIDTH = 110  # where the output is no terminal
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 40
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}


def _console(*, error: bool = False) -> Console:
    console = Console(stderr=error, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error. Yields what is to be called before each step, with what comes."""
    console = _console(error=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}[/]"),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=False,  # no thread that would take turns with what is measured
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=total, detail="")
        done = -1

        def advance(detail: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, detail=escape(detail), refresh=True)

        yield advance


# --- demo


def demo_epochs(epochs: Iterable[Epoch], total: int) -> list[Epoch]:
    """Show the epochs as they come, and return them."""
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
    """The learning curves, and what crossed the bridge."""
    console = _console()
    console.print()
    for label, values in (
        ("loss per frame", [epoch.loss_per_frame for epoch in history]),
        ("label errors", [epoch.label_error_rate for epoch in history]),
    ):
        for number, line in enumerate(_curve(values)):
            console.print(f"{'' if number else label:>16}  {line}")
    console.print()
    console.print(_pool_table("What crossed the bridge", stats))


def _curve(values: Sequence[float], height: int = 4) -> Iterator[str]:
    """Lines of a picture with a bar for each value, from 0 to the greatest."""
    if len(values) > _CURVE_WIDTH:
        values = [values[i * len(values) // _CURVE_WIDTH] for i in range(_CURVE_WIDTH)]
    top = max(*values, 1e-9)
    for below in reversed(range(height)):
        yield "".join(_BLOCKS[min(max(round(8 * (height * value / top - below)), 0), 8)] for value in values)


# --- bench


def bench_figures(figures: Sequence[Figures], ways: Mapping[str, str]) -> None:
    """A table of durations, and what each of the ways is."""
    table = Table(title="One segment to a Sprint that takes no time, and back")
    for column in ("time x label", "size", "way", "p50", "p90", "p99", "exchanges"):
        table.add_column(column, justify="left" if column == "way" else "right")
    shape = None
    for each in figures:
        if shape not in (None, (each.rows, each.columns)):
            table.add_section()
        new, shape = shape != (each.rows, each.columns), (each.rows, each.columns)
        table.add_row(
            f"{each.rows} x {each.columns}" if new else "",
            format_bytes(4 * each.rows * each.columns) if new else "",
            each.way,
            *(format_duration(value) for value in (each.p50, each.p90, each.p99)),
            str(each.count),
        )
    console = _console()
    console.print(table)
    for way, what in ways.items():
        console.print(f"[dim]{way}: {what}[/]")


# --- doctor


def doctor_checks(checks: Iterable[Check]) -> list[Check]:
    """Show each check when it is done, and return them."""
    console = _console()
    done = []
    for check in checks:
        done.append(check)
        console.print(
            Text.assemble((f"{check.status:>8}", _STYLES[check.status]), "  ", (check.name, "bold"))
        )
        for text, style in ((check.found, ""), (check.advice and f"→ {check.advice}", "yellow")):
            for line in text.splitlines():
                console.print(Padding(Text(line, style, overflow="fold"), (0, 0, 0, 10), expand=False))
    counts = {status: sum(check.status == status for check in done) for status in (WARNING, FAILED)}
    console.print(f"{len(done)} checks, warnings: {counts[WARNING]}, failed: {counts[FAILED]}")
    return done


# --- stats


def pools(states: Iterable[list[Pool]], *, live: bool) -> None:
    """Show the pools each time: in place (on a terminal), or one below the other."""
    console = _console()
    before: dict[str, PoolStatistics] = {}
    with Live(console=console, auto_refresh=False) if live else contextlib.nullcontext() as screen:
        for found in states:
            tables = [_pool(pool, before.get(pool.name)) for pool in found]
            before = {pool.name: pool.statistics for pool in found}
            if screen is None:
                console.print(*tables, sep="\n")
            else:
                screen.update(Group(*tables), refresh=True)


def _pool(pool: Pool, before: Optional[PoolStatistics]) -> RenderableType:
    title = f"process {pool.pid}: {escape(pool.executable)}"
    return Group(_pool_table(title, pool.statistics, before), _children(pool.statistics.children))


def _pool_table(title: str, stats: PoolStatistics, before: Optional[PoolStatistics] = None) -> Table:
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("Sprint children", f"{len(stats.children)}")
    table.add_row("segments", f"{stats.segments}")
    if before is not None and stats.seconds > before.seconds:
        rate = (stats.segments - before.segments) / (stats.seconds - before.seconds)
        table.add_row("  each second, since the last look", f"{rate:.1f}")
    table.add_row("  skipped by Sprint", f"{stats.skipped}")
    table.add_row("  failed", f"{stats.failed}")
    if stats.automata:
        table.add_row("automata", f"{stats.automata}")
    if stats.scored:
        table.add_row("segments scored", f"{stats.scored}")
        if before is not None and stats.seconds > before.seconds:
            rate = (stats.scored - before.scored) / (stats.seconds - before.seconds)
            table.add_row("  each second, since the last look", f"{rate:.1f}")
        table.add_row("  frames", f"{stats.scored_frames}")
    table.add_row("posteriors sent", format_bytes(stats.posteriors_bytes))
    table.add_row("error signals received", format_bytes(stats.error_signal_bytes))
    table.add_row("time since the start", format_duration(stats.seconds))
    table.add_row("  waiting for Sprint", _share(stats.wait_seconds, stats.seconds))
    table.add_row("  copying", _share(stats.copy_seconds, stats.seconds))
    if stats.score_seconds:
        table.add_row("  in the score function", _share(stats.score_seconds, stats.seconds))
    table.add_row("  until Sprint was ready", _share(stats.start_seconds, stats.seconds))
    table.add_row("restarts", f"{stats.restarts}")
    return table


def _share(part: float, whole: float) -> str:
    return f"{format_duration(part)} ({part / max(whole, 1e-9):.0%})"


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
            Text(each.state, {"ready": "green", "starting": "yellow"}.get(each.state, "red")),
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
    grid.add_row(ProgressBar(total=max(capacity, 1), completed=used, width=12), f"{format_bytes(used)}")
    return grid
