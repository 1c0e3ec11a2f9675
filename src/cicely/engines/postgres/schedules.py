"""The verbs of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import NewJob
from cicely.engines.contract import Schedule
from cicely.engines.postgres import workflows
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, Values

_SQL: Final = statements("schedule")


def schedules(txn: Transaction) -> list[Schedule]:
    """Return every schedule, by name."""
    return [_of(row) for row in txn.rows(_SQL["all"])]


def put(txn: Transaction, schedule: Schedule) -> None:
    """Keep a schedule."""
    row = (schedule.name, schedule.spec, schedule.next_at, schedule.last_at, schedule.paused)
    txn.execute(_SQL["put"], row)


def drop(txn: Transaction, name: str) -> bool:
    """Forget a schedule; return whether it was known."""
    return txn.row(_SQL["drop"], {"name": name}) is not None


def tick(txn: Transaction, seen: Schedule, then: Schedule, jobs: Sequence[NewJob]) -> bool:
    """Move a schedule on and enqueue, unless somebody was faster."""
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
