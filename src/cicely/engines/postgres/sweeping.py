"""The verb `sweep`: every duty in bounded steps, each from the head of an ordered index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.outcome import after_loss, after_visibility
from cicely.engines.contract import RECEIPT_LEASES, Silent
from cicely.engines.postgres.endings import Endings, expire, held_by, rows_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    READY,
    SCHEDULED,
    Transaction,
    Values,
    tags_of,
    token_of,
)

_SQL: Final = statements("sweep")
_PROMOTE: Final = _SQL["promote"]
_OVERDUE: Final = _SQL["overdue"]
_SESSIONS: Final = statements("sessions")
_SETTLE: Final = statements("settle")
_BLOB: Final = statements("blob")
_FORGET_DEAD_BELLS: Final = statements("news")["forget_dead"]

#: How long a closed session's name is kept for the attempts that it made.
_SESSION_KEPT_S: Final = 90 * 86_400.0

#: Counter rows are narrow: so many are folded for each step of the other duties.
FOLDED_PER_STEP: Final = 10

_DELETIONS: Final = [
    statement for name, statement in _SQL.items() if name.startswith("delete_") and name != "delete_blob"
]


def rescue(txn: Transaction, silent: Silent) -> int:
    """Take everything from a session whose beat is still the one seen; return how many jobs."""
    member = txn.row(_SESSIONS["silent"], {"key": silent.session_id, "beat": silent.beat})
    if member is None:
        return 0
    endings = Endings(txn)
    rows = held_by(txn, member[0])
    for row in rows:
        step = after_loss(row.tallies, cancelling=bool(row.cancelling), why=row.reason)
        endings.carry_out(row, step, "lost")
    endings.write()
    txn.execute(_SESSIONS["close"], {"id": member[0], "now": txn.now})
    return len(rows)


def take_back_messages(txn: Transaction, batch: int) -> int:
    """Take back claims past their own deadline; return how many."""
    overdue = txn.rows(_OVERDUE, _until_now(txn, batch))
    if not overdue:
        return 0
    endings = Endings(txn)
    for row in rows_of(txn, (n for (n,) in overdue)):
        if row.cancelling:
            endings.release(row, "cancelled")
            continue
        step = after_visibility(row.tallies, max_receives=row.max_receives)
        endings.carry_out(row, step, "timeout")
    endings.write()
    return len(overdue)


def promote(txn: Transaction, batch: int) -> int:
    """Make due jobs ready; return how many."""
    due = txn.rows(_PROMOTE, _until_now(txn, batch))
    for (queue,) in due:
        txn.move(queue, SCHEDULED, READY)
    return len(due)


def expire_late(txn: Transaction, batch: int) -> int:
    """End jobs that were to start before now; return how many."""
    late = txn.rows(_SQL["late"], _until_now(txn, batch))
    expire(txn, [n for _, n in late])
    txn.many(_SETTLE["unexpiring"], late)
    return len(late)


def delete_old(txn: Transaction, batch: int) -> int:
    """Delete jobs past their retention; return how many."""
    old = txn.rows(_SQL["old"], _until_now(txn, batch))
    delete(txn, sorted(n for (n,) in old))
    return len(old)


def delete(txn: Transaction, ns: Sequence[int]) -> None:
    """Delete ended jobs and all that belongs to them."""
    if not ns:
        return
    ended = txn.rows(_SQL["remains"], {"ns": list(ns)})
    for remains in ended:
        _bury(txn, remains)
    # Only what has ended, whatever a damaged index says.
    gone = [remains[0] for remains in ended]
    for statement in _DELETIONS if gone else ():
        txn.execute(statement, {"ns": gone})
    if gone:
        txn.execute(_SQL["delete_blob"], {"ids": [remains[1] for remains in ended]})


def _bury(txn: Transaction, remains: Values) -> None:
    """Keep what outlives a job: a tomb of its id, a receipt of its end while it is young."""
    (
        n, job_id, job_class, queue, remember_s, tags, state, ended_at, request, fence, outcome,
        lease_s,
    ) = remains  # fmt: skip
    if remember_s > 0:
        txn.execute(_SQL["tomb"], (job_id, job_class, queue, state, txn.now + remember_s))
    receipt_until = ended_at + RECEIPT_LEASES * lease_s
    if request is not None and receipt_until > txn.now:
        txn.execute(_SETTLE["receipt"], (token_of(request, n, fence), outcome, receipt_until))
    txn.many(_SQL["untag"], [(tag, n) for tag in tags_of(tags)])
    txn.count(queue, state, -1)


def forget(txn: Transaction, batch: int) -> None:
    """Drop receipts, tombs, closed sessions and orphaned blobs whose time is over, and bells of the dead."""
    txn.execute(_FORGET_DEAD_BELLS)
    txn.execute(_SQL["forget_receipts"], _until_now(txn, batch))
    txn.execute(_SQL["forget_tombs"], _until_now(txn, batch))
    before = {"before": txn.now - _SESSION_KEPT_S, "batch": batch}
    txn.execute(_SESSIONS["forget_closed"], before)
    for check_at, job_id, digest, has_job in txn.rows(_SQL["orphans"], _until_now(txn, batch)):
        if not has_job and not txn.row(_BLOB["watched"], (job_id, digest, check_at)):
            txn.execute(_BLOB["remove"], (job_id, digest))
        txn.execute(_BLOB["unwatch"], (check_at, job_id, digest))


def fold(txn: Transaction, batch: int) -> None:
    """Add what transactions appended to the counters."""
    txn.execute(_SQL["fold"], {"batch": FOLDED_PER_STEP * batch})


def _until_now(txn: Transaction, batch: int) -> dict[str, float]:
    return {"now": txn.now, "batch": batch}
