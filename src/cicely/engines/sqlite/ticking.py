"""The verbs of schedules: what is kept of them, and one tick of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import NewJob
from cicely.engines.contract import Schedule
from cicely.engines.sqlite.enqueueing import enqueue
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values

_SQL: Final = statements("schedule")


def schedules(txn: Transaction) -> list[Schedule]:
    """Return every schedule, by name."""
    return [_schedule(row) for row in txn.rows(_SQL["all"])]


def put_schedule(txn: Transaction, schedule: Schedule) -> None:
    """Keep a schedule under its name."""
    values = (schedule.name, schedule.spec, schedule.next_at, schedule.last_at, int(schedule.paused))
    txn.execute(_SQL["put"], values)


def drop_schedule(txn: Transaction, name: str) -> bool:
    """Forget a schedule; return whether it was known."""
    return bool(txn.rows(_SQL["drop"], (name,)))


def tick(txn: Transaction, seen: Schedule, then: Schedule, jobs: Sequence[NewJob]) -> bool:
    """Put `then` in place of `seen` and enqueue `jobs`, unless somebody was faster."""
    row = txn.row(_SQL["one"], (seen.name,))
    if row is None or _schedule(row) != seen:
        return False
    put_schedule(txn, then)
    if jobs:
        enqueue(txn, jobs)
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
