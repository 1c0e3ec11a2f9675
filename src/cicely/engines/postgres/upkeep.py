"""The verb `sweep`: all duties of upkeep in one transaction, each in bounded steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.engines.contract import Silent, Swept
from cicely.engines.postgres import past, releasing, schedules, sweeping, undoing, workflows
from cicely.engines.postgres.coming_back import next_due_in_s
from cicely.engines.postgres.reservations import end_unused
from cicely.engines.postgres.stream_upkeep import look_after_streams
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.turning import TURN_EVERY

#: So many workflows are looked at by one sweep.
_MOST_WORKFLOWS: Final = 8
_MOST_INTENTS: Final = 64


def sweep(txn: Transaction, batch: int, silent: Sequence[Silent]) -> Swept:
    """Carry out at most `batch` steps of each duty."""
    rescued = sum(sweeping.rescue(txn, one) for one in sorted(silent, key=lambda one: one.session_id))
    taken_back = sweeping.take_back_messages(txn, batch)
    promoted = sweeping.promote(txn, batch)
    expired = sweeping.expire_late(txn, batch)
    has_arrivals = releasing.fold_some(txn, batch)
    has_intents = undoing.carry_on(txn, _MOST_INTENTS)
    unreserved = end_unused(txn, batch)
    deleted = sweeping.delete_old(txn, batch)
    of_workflows, has_workflows = _keep_house(txn, batch)
    sweeping.forget(txn, batch)
    has_come = look_after_streams(txn, batch)
    sweeping.fold(txn, batch)
    has_old = past.forget(txn, batch)
    txn.taken = TURN_EVERY
    txn.is_stirred = True
    is_full = batch in (promoted, expired, deleted, taken_back, unreserved)
    in_s = _next_due_in_s(txn)
    due = schedules.due(txn, batch)
    past.number(txn)
    return Swept(
        promoted=promoted,
        rescued=rescued,
        expired=expired,
        deleted=deleted + of_workflows,
        next_due_in_s=in_s,
        more=is_full or has_arrivals or has_intents or has_workflows or has_come or has_old,
        due=due,
        now=txn.now,
        newest=past.newest(txn),
    )


def _keep_house(txn: Transaction, batch: int) -> tuple[int, bool]:
    """Look after workflows whose turn has come; return how many jobs were deleted, and whether to go on."""
    deleted = 0
    for _ in range(_MOST_WORKFLOWS):
        jobs, is_more = workflows.keep_house(txn, max(1, batch - deleted))
        deleted += jobs
        if not is_more or deleted >= batch:
            return deleted, is_more
    return deleted, True


def _next_due_in_s(txn: Transaction) -> float | None:
    """Return when the next job or schedule is due, whichever comes first."""
    waits = [next_due_in_s(txn), schedules.next_in_s(txn)]
    return min((wait for wait in waits if wait is not None), default=None)
