"""What waits, and how many processes it wants: for a worker, a person and the metrics."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from cicely.core.rollup import Cell, Sum, Word, minute_of
from cicely.core.scaling import Backlog, ScaleRule, wanted
from cicely.core.states import State
from cicely.engines.contract import Engine, QueueRecord, SessionRecord

#: Jobs of the last few minutes say how long one takes.
_MINUTES: Final = 5
_RAN: Final = (Word.SUCCEEDED, Word.FAILED)


class Look(msgspec.Struct, frozen=True):
    """What was seen at one look at the engine: `ended` are the jobs of the last minutes."""

    queues: Sequence[QueueRecord]
    ended: Sequence[Cell]

    def backlog(self, names: Collection[str] = ()) -> Backlog:
        """Return what waits in these queues (none named: in all), those of paused ones left out."""
        waiting = sum(
            record.counts.get(State.READY, 0)
            for record in self.queues
            if not record.paused and (not names or record.name in names)
        )
        return Backlog(waiting, self._mean_run_s(names) if waiting else None)

    def _mean_run_s(self, names: Collection[str]) -> float | None:
        """Return how long the jobs of these queues took, None where none ran."""
        ran = Sum()
        for cell in self.ended:
            if not names or cell.queue in names:
                ran.add(cell)
        return ran.sum_us / 1e6 / ran.count if ran.count else None


def look(engine: Engine) -> Look:
    """Look at all queues now."""
    queues = engine.queues()
    if not any(record.counts.get(State.READY, 0) for record in queues):
        return Look(queues, ())
    minute = minute_of(time.time())
    page = engine.rollups(minute - _MINUTES, minute + 1)
    return Look(queues, [cell for cell in page.cells if cell.word in _RAN])


def backlog_of(engine: Engine, names: Collection[str] = ()) -> Backlog:
    """Return what waits in these queues (none named: in all) now, those of paused ones left out."""
    return look(engine).backlog(names)


def processes_of(sessions: Iterable[SessionRecord], names: Collection[str] = ()) -> int:
    """Count the children of workers that serve one of these queues (none named: any)."""
    return sum(
        record.session.worker != record.session.id
        and (not names or not record.session.queues or not set(names).isdisjoint(record.session.queues))
        for record in sessions
    )


def wanted_processes(backlog: Backlog, rule: ScaleRule, *, processes: int) -> int:
    """Return how many processes there should be where there are so many, none counting as one."""
    return wanted(rule, backlog, processes=max(1, processes))
