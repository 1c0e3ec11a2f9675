"""Reading rollups: page by page, added up per task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cicely.core.rollup import Cell, Sum, Word
from cicely.engines.contract import Engine

_PAGE: Final = 5_000

#: Attempts that had begun to run, however they ended.
RAN: Final = (
    Word.SUCCEEDED,
    Word.FAILED,
    Word.CANCELLED,
    Word.RETRIED,
    Word.CRASHED,
    Word.LOST,
    Word.RETURNED,
    Word.DEFERRED,
    Word.SUSPENDED,
)


class TaskStats(msgspec.Struct, kw_only=True):
    """What was counted of one task: by word, and the run times of all its attempts."""

    task: str
    counts: dict[Word, int] = {}
    runs: Sum = msgspec.field(default_factory=Sum)

    def count(self, word: Word) -> int:
        """Return how often a word was counted."""
        return self.counts.get(word, 0)


def cells(engine: Engine, since_minute: int, until_minute: int) -> Iterator[Cell]:
    """Yield what was counted between two minutes, oldest first; one cell may come in parts."""
    minute: int | None = since_minute
    while minute is not None:
        page = engine.rollups(minute, until_minute, limit=_PAGE)
        yield from page.cells
        minute = page.next_minute


def by_task(counted: Iterable[Cell]) -> list[TaskStats]:
    """Add cells up per task, by name; messages are the task ""."""
    stats: dict[str, TaskStats] = {}
    for cell in counted:
        if cell.word is not Word.ENQUEUED and cell.word not in RAN and cell.word is not Word.EXPIRED:
            continue
        one = stats.setdefault(cell.task, TaskStats(task=cell.task))
        one.counts[cell.word] = one.count(cell.word) + cell.count
        if cell.word in RAN:
            one.runs.add(cell)
    return [stats[name] for name in sorted(stats)]
