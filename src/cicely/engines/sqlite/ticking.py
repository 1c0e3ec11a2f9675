"""The verbs of schedules: what is kept of them, and one tick of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import SCHEDULE_REMOVED, SCHEDULE_SET, kind_of_pause
from cicely.core.job import NewJob
from cicely.core.rollup import Count
from cicely.engines.contract import MARK, Schedule
from cicely.engines.sqlite.enqueueing import enqueue
from cicely.engines.sqlite.past import report
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import tell
from cicely.engines.sqlite.transaction import Transaction, Values

_SQL: Final = statements("schedule")


def schedules(txn: Transaction) -> list[Schedule]:
    """Return every schedule, by name."""
    return [_schedule(row) for row in txn.rows(_SQL["all"])]


def put_schedule(txn: Transaction, schedule: Schedule) -> None:
    """Keep a schedule under its name."""
    _put(txn, schedule)
    _tell(txn, SCHEDULE_SET, schedule.name)


def _put(txn: Transaction, schedule: Schedule) -> None:
    values = (schedule.name, schedule.spec, schedule.next_at, schedule.last_at, int(schedule.paused))
    txn.execute(_SQL["put"], values)


def drop_schedule(txn: Transaction, name: str) -> bool:
    """Forget a schedule; return whether it was known."""
    was_known = bool(txn.rows(_SQL["drop"], (name,)))
    _tell(txn, SCHEDULE_REMOVED if was_known else None, name)
    return was_known


def _tell(txn: Transaction, kind: str | None, name: str) -> None:
    if not name.startswith(MARK):
        tell(txn, kind, name)


def tick(
    txn: Transaction, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count]
) -> bool:
    """Put `then` in place of `seen`, enqueue `jobs` and add `counts`, unless somebody was faster."""
    row = txn.row(_SQL["one"], (seen.name,))
    if row is None or _schedule(row) != seen:
        return False
    _put(txn, then)
    if jobs:
        enqueue(txn, jobs)
    report(txn, counts)
    _tell(txn, kind_of_pause(was_paused=seen.paused, is_paused=then.paused), seen.name)
    return True


def due(txn: Transaction, batch: int) -> tuple[Schedule, ...]:
    """Return the schedules whose instant has come, the longest due first."""
    return tuple(_schedule(row) for row in txn.rows(_SQL["due"], (txn.now, batch)))


def next_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next schedule is due."""
    row = txn.row(_SQL["next"])
    return max(0.0, row[0] - txn.now) if row else None


def _schedule(row: Values) -> Schedule:
    name, spec, next_at, last_at, paused = row
    return Schedule(name=name, spec=spec, next_at=next_at, last_at=last_at, paused=bool(paused))
