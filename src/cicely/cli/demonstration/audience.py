"""Those who watch the demo: a person at a terminal, a log, or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from cicely.cli.demonstration.play import Audience, Standing
from cicely.cli.screen import console
from cicely.cli.text import safe

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_S: Final = 5.0


@contextmanager
def at_the_terminal() -> Iterator[Audience]:
    """Show a bar that moves."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("grading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
    )
    # Drawn by us alone: no thread of its own runs while workers are started.
    with Progress(*columns, console=console(), auto_refresh=False) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("grading", total=None, pace="")

    def see(self, standing: Standing) -> None:
        self._progress.update(self._task, completed=standing.done, total=standing.total, pace=_pace(standing))
        self._progress.refresh()

    def hear(self, line: str) -> None:
        self._progress.print(safe(line))


class InALog:
    """Gets a line every five seconds."""

    def __init__(self) -> None:
        self._next_at_s = 0.0

    def see(self, standing: Standing) -> None:
        """Write a line if it is time for one."""
        if standing.ran_s < self._next_at_s and standing.done < standing.total:
            return
        self._next_at_s = standing.ran_s + _LINE_EVERY_S
        click.echo(f"{standing.done} of {standing.total} · {_pace(standing)} · {standing.ran_s:.0f} s")

    def hear(self, line: str) -> None:
        """Write it down."""
        click.echo(safe(line))


class Nobody:
    """Waits for the document at the end."""

    def see(self, standing: Standing) -> None:
        """Look away."""

    def hear(self, line: str) -> None:
        """Not listen."""


def _pace(standing: Standing) -> str:
    return f"{standing.rate:.1f} jobs/s · {standing.running} running"
