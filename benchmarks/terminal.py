"""Progress bars."""

from __future__ import annotations

from typing import Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from .progress import Progress


class Bar(Progress):
    """Shows a bar for each part of the run. A context manager.

    Args:
        console: to draw on.
    """

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/]"),
            console=console,
            # A refresh thread would disturb the measurement.
            auto_refresh=False,
            transient=True,
        )
        self._task: Optional[TaskID] = None
        self._done = 0

    def begin(self, what: str, total: int) -> None:
        """Complete the current bar and show a new one."""
        self._finish()
        self._task = self._bar.add_task(what, total=total, detail="")
        self._done = -1  # the first call of advance begins the first step
        self._bar.refresh()

    def advance(self, detail: str = "") -> None:
        """Show the next step."""
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
