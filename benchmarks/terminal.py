"""A progress bar for each part of the run."""

from __future__ import annotations

from typing import Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from .progress import Progress


class Bar(Progress):
    """A context manager: shows the bars while it is entered.

    Args:
        console: where.
    """

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/]"),
            console=console,
            # No thread that redraws: it would take turns with what is measured.
            auto_refresh=False,
            transient=True,
        )
        self._task: Optional[TaskID] = None
        self._done = 0

    def begin(self, what: str, total: int) -> None:
        """Show a new bar; the one before is full."""
        self._finish()
        self._task = self._bar.add_task(what, total=total, detail="")
        self._done = -1  # what is told first is what comes first
        self._bar.refresh()

    def advance(self, detail: str = "") -> None:
        """Show what comes next."""
        if self._task is not None:
            self._done += 1
            self._bar.update(self._task, completed=self._done, detail=detail, refresh=True)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._bar.stop()

    def _finish(self) -> None:
        if self._task is not None:
            total = self._bar.tasks[self._bar.task_ids.index(self._task)].total
            self._bar.update(self._task, completed=total, detail="", refresh=True)
            self._bar.stop_task(self._task)
