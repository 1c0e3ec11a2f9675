"""Looking at a backlog, for those who scale by it: a worker its processes, a person the fleet."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from cicely.core.rollup import Sum, Word, minute_of
from cicely.core.scaling import Backlog
from cicely.core.states import State
from cicely.engines.contract import Engine

#: Jobs of the last few minutes say how long one takes.
_MINUTES: Final = 5
_RAN: Final = (Word.SUCCEEDED, Word.FAILED)


def backlog_of(engine: Engine, queues: Collection[str]) -> Backlog:
    """Return what waits in these queues (none named: in all), those of paused ones left out."""
    waiting = sum(
        record.counts.get(State.READY, 0)
        for record in engine.queues()
        if not record.paused and (not queues or record.name in queues)
    )
    return Backlog(waiting, mean_run_s(engine, queues) if waiting else None)


def mean_run_s(engine: Engine, queues: Collection[str]) -> float | None:
    """Return how long the jobs of these queues took in the last minutes, None where none ran."""
    minute = minute_of(time.time())
    ran = Sum()
    page = engine.rollups(minute - _MINUTES, minute + 1)
    for cell in page.cells:
        if cell.word in _RAN and (not queues or cell.queue in queues):
            ran.add(cell)
    return ran.sum_us / 1e6 / ran.count if ran.count else None
