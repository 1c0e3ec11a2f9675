"""The terminal view of `cicely dev`: queues, running jobs and the newest failures, drawn in place."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Final, Self

from cicely.cli.queues import queue_table
from cicely.cli.records import age, remark, took
from cicely.cli.reload import Front
from cicely.cli.screen import Column, console, table
from cicely.cli.text import safe, short_id
from cicely.core.job import Filter, Job
from cicely.core.states import State
from cicely.errors import CicelyError

if TYPE_CHECKING:
    from cicely.engines.contract import Engine

_RUNNING: Final = (
    Column("RUNNING"),
    Column("TASK", gives=True),
    Column("TRY", right=True),
    Column("FOR", right=True),
    Column("NOTE", gives=True),
)
_FAILED: Final = (
    Column("FAILED"),
    Column("TASK", gives=True),
    Column("AGE", right=True),
    Column("WHY", gives=True),
)
_MOST_RUNNING: Final = 8
_MOST_FAILED: Final = 5


class View(Front):
    """Asks the engine twice a second and draws; the worker's own lines scroll by above."""

    worker_output = subprocess.PIPE

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=console(), auto_refresh=False)
        self._engine: Engine | None = None
        self._said = "starting"

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()
        self._forget_engine()

    def say(self, line: str) -> None:
        """Show a line of ours, above and in the title."""
        self._said = line
        self.hear(line)

    def hear(self, line: str) -> None:
        """Show a line of the worker's above the picture."""
        from rich.text import Text

        self._live.console.print(Text(safe(line)))

    def connect(self, url: str) -> None:
        """Look at this engine from now on."""
        from cicely.engines.connect import connect

        self._forget_engine()
        engine = connect(url, role="producer")
        engine.open()
        self._engine = engine
        self._said = "running"

    def draw(self) -> None:
        """Draw what is to be seen now."""
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        title = Text(f"── cicely dev: {safe(self._said)}", style="bold", no_wrap=True, overflow="ellipsis")
        try:
            return Group(title, *self._tables())
        except CicelyError as error:
            return Group(title, Text(safe(str(error)), style="red"))

    def _forget_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _tables(self) -> list[Any]:
        engine = self._engine
        if engine is None:
            return []
        queues = engine.queues()
        drawn: list[Any] = [table(*queue_table(queues))] if queues else []
        running = engine.find(Filter(states=(State.RUNNING,)), limit=_MOST_RUNNING).jobs
        if running:
            drawn.append(table(_RUNNING, map(_running_row, running)))
        failed = engine.find(Filter(states=(State.FAILED,)), limit=_MOST_FAILED).jobs
        if failed:
            drawn.append(table(_FAILED, map(_failed_row, failed)))
        return drawn


def _running_row(job: Job) -> tuple[str, ...]:
    return short_id(job.id), job.task or "(message)", str(job.attempt), took(job), remark(job)


def _failed_row(job: Job) -> tuple[str, ...]:
    return short_id(job.id), job.task or "(message)", age(job), remark(job)
