"""The verbs of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import SCHEDULE_REMOVED, SCHEDULE_SET, kind_of_pause
from cicely.core.job import NewJob
from cicely.core.rollup import Count
from cicely.engines.contract import MARK, Schedule
from cicely.engines.postgres import workflows
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("schedule")


def schedules(txn: Transaction) -> list[Schedule]:
    """Return every schedule, by name."""
    return [_of(row) for row in txn.rows(_SQL["all"])]


def put(txn: Transaction, schedule: Schedule) -> None:
    """Keep a schedule."""
    row = (schedule.name, schedule.spec, schedule.next_at, schedule.last_at, schedule.paused)
    txn.execute(_SQL["put"], row)
    _tell(txn, SCHEDULE_SET, schedule.name)


def drop(txn: Transaction, name: str) -> bool:
    """Forget a schedule; return whether it was known."""
    was_known = txn.row(_SQL["drop"], {"name": name}) is not None
    _tell(txn, SCHEDULE_REMOVED if was_known else None, name)
    return was_known


def _tell(txn: Transaction, kind: str | None, name: str) -> None:
    if kind is not None and not name.startswith(MARK):
        txn.record.tell(kind, name=name)


def tick(
    txn: Transaction, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count]
) -> bool:
    """Move a schedule on, enqueue and count, unless somebody was faster."""
    change = {
        "name": seen.name,
        "spec": then.spec,
        "next_at": then.next_at,
        "last_at": then.last_at,
        "paused": then.paused,
        "seen_spec": seen.spec,
        "seen_paused": seen.paused,
        "seen_next_at": seen.next_at,
        "seen_last_at": seen.last_at,
    }
    if txn.row(_SQL["tick"], change) is None:
        return False
    if jobs:
        workflows.enqueue_any(txn, jobs, ())
    txn.record.report(counts)
    _tell(txn, kind_of_pause(was_paused=seen.paused, is_paused=then.paused), seen.name)
    return True


def due(txn: Transaction, batch: int) -> tuple[Schedule, ...]:
    """Return schedules whose time has come, those due longest first."""
    return tuple(_of(row) for row in txn.rows(_SQL["due"], {"now": txn.now, "batch": batch}))


def next_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next schedule is due."""
    row = txn.row(_SQL["next"])
    return None if row is None else max(0.0, row[0] - txn.now)


def _of(row: Values) -> Schedule:
    name, spec, next_at, last_at, paused = row
    return Schedule(name=name, spec=spec, next_at=next_at, last_at=last_at, paused=paused)
