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
from cicely.observe.startable import QUEUES, Alike, seen_waiting, startable_of

#: Jobs of the last few minutes say how long one takes.
_MINUTES: Final = 5
_RAN: Final = (Word.SUCCEEDED, Word.FAILED)


class Look(msgspec.Struct, frozen=True):
    """What was seen at one look at the engine: `ended` are the jobs of the last minutes.

    `waiting` are some of the jobs that wait (None: nobody looked at them, and all count).
    """

    queues: Sequence[QueueRecord]
    ended: Sequence[Cell]
    waiting: Sequence[Alike] | None = None

    def backlog(self, names: Collection[str] = ()) -> Backlog:
        """Return what waits in these queues (none named: in all), those of paused ones left out."""
        queues = [record for record in self.queues if not names or record.name in names]
        if self.waiting is None:
            waiting = sum(record.counts.get(State.READY, 0) for record in queues if not record.paused)
            return Backlog(waiting, self._mean_run_s(names) if waiting else None)
        found = startable_of(queues, self.waiting)
        return Backlog(
            found.waiting,
            self._mean_run_s(names) if found.waiting else None,
            held_back=found.held_back,
            startable=found.startable,
            idle=found.idle,
        )

    def with_jobs(self, engine: Engine, names: Collection[str] = (), *, worker: str = "") -> Look:
        """Return it with some jobs of the longest of these queues (none named: of all)."""
        lengths = {
            record.name: record.counts.get(State.READY, 0)
            for record in self.queues
            if not record.paused and (not names or record.name in names)
        }
        longest = sorted(filter(lengths.get, lengths), key=lambda name: -lengths[name])[:QUEUES]
        return msgspec.structs.replace(self, waiting=seen_waiting(engine, longest, worker=worker))

    def _mean_run_s(self, names: Collection[str]) -> float | None:
        """Return how long the jobs of these queues took, None where none ran."""
        ran = Sum()
        for cell in self.ended:
            if not names or cell.queue in names:
                ran.add(cell)
        return ran.sum_us / 1e6 / ran.count if ran.count else None


def look(engine: Engine, names: Collection[str] = ()) -> Look:
    """Look at all queues now, and at what waits in these (none named: in all) for one more worker."""
    return glance(engine).with_jobs(engine, names)


def glance(engine: Engine) -> Look:
    """Look at the numbers of all queues now: whatever is ready counts."""
    queues = engine.queues()
    if not any(record.counts.get(State.READY, 0) for record in queues):
        return Look(queues, ())
    minute = minute_of(time.time())
    page = engine.rollups(minute - _MINUTES, minute + 1)
    return Look(queues, [cell for cell in page.cells if cell.word in _RAN])


def backlog_of(engine: Engine, names: Collection[str] = ()) -> Backlog:
    """Return what waits in these queues (none named: in all) now for one more worker."""
    return look(engine, names).backlog(names)


def backlog_at(
    engine: Engine, names: Collection[str], *, worker: str, rule: ScaleRule, processes: int
) -> Backlog:
    """Return what waits in these queues now for one more process of a worker that has so many.

    At the jobs themselves it looks only where that may change something.
    """
    seen = glance(engine)
    backlog = seen.backlog(names)
    target = wanted(rule, backlog, processes=processes)
    if target < processes or not backlog.waiting:
        return backlog
    if target == processes and not _has_idle(engine.sessions(), worker):
        return backlog
    return seen.with_jobs(engine, names, worker=worker).backlog(names)


def _has_idle(sessions: Iterable[SessionRecord], worker: str) -> bool:
    return any(one.session.worker == worker and one.session.tasks and not one.held for one in sessions)


def processes_of(sessions: Iterable[SessionRecord], names: Collection[str] = ()) -> int:
    """Count the children of workers that serve one of these queues (none named: any)."""
    return sum(
        record.session.worker != record.session.id
        and (not names or not record.session.queues or not set(names).isdisjoint(record.session.queues))
        for record in sessions
    )


def wanted_processes(backlog: Backlog, rule: ScaleRule, *, processes: int) -> int:
    """Return how many processes there should be where there are so many."""
    return wanted(rule, backlog, processes=processes)
