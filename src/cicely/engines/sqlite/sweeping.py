"""The verb `sweep`: every duty in bounded steps, each from the head of an ordered index."""

from __future__ import annotations

from typing import Final

from cicely.core.event import WORKER_LOST
from cicely.core.outcome import after_loss, after_visibility
from cicely.core.rollup import Word
from cicely.engines.contract import Session, Silent
from cicely.engines.sqlite.cascade import each, expire
from cicely.engines.sqlite.endings import Endings, Row, held_by, rows_of
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.member import session_of
from cicely.engines.sqlite.openings import look_over
from cicely.engines.sqlite.reserving import end_with_worker
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.suspending import forget_events, stop_awaiting
from cicely.engines.sqlite.telling import tell_of_worker
from cicely.engines.sqlite.transaction import (
    READY,
    SCHEDULED,
    WAITING,
    Transaction,
    numbers,
)

_SQL: Final = statements("sweep")
_DUE: Final = _SQL["due"]
_OVERDUE: Final = _SQL["overdue"]
_SESSIONS: Final = statements("sessions")
_SETTLE: Final = statements("settle")
_BLOB: Final = statements("blob")
_NEWS: Final = statements("news")
_VALVE: Final = statements("valve")

#: How long a closed session's name is kept for the attempts that it made.
_SESSION_KEPT_S: Final = 90 * 86_400.0
#: How long it is known of a worker what it passed over; it may be gone.
_PASSED_OVER_KEPT_S: Final = 7 * 86_400.0


def rescue(txn: Transaction, silent: Silent) -> int:
    """Take everything from a session whose beat is still the one seen; return how many jobs."""
    member = txn.row(_SESSIONS["silent"], (silent.session_id, silent.beat))
    if member is None:
        return 0
    rows = held_by(txn, member[0])
    each(txn, rows, _lose)
    session = session_of(silent.session_id, member[1])
    _note_loss(txn, session)
    txn.execute(_SESSIONS["close"], (member[0], txn.now))
    end_with_worker(txn, session.worker)
    return len(rows)


def _note_loss(txn: Transaction, session: Session) -> None:
    tell_of_worker(txn, WORKER_LOST, session)
    if session.is_supervisor:
        txn.record.count_other(Word.LOST_WORKERS, 0, 1)


def _lose(endings: Endings, row: Row) -> None:
    step = after_loss(row.tallies, cancelling=bool(row.cancelling), why=row.reason)
    endings.carry_out(row, step, "lost")


def take_back_messages(txn: Transaction, batch: int) -> int:
    """Take back claims past their own deadline; return how many."""
    overdue = txn.rows(_OVERDUE, (txn.now, batch))
    if not overdue:
        return 0
    each(txn, rows_of(txn, (n for (n,) in overdue)), _take_back)
    return len(overdue)


def _take_back(endings: Endings, row: Row) -> None:
    if row.cancelling:
        endings.release(row, "cancelled")
        return
    step = after_visibility(row.tallies, max_receives=row.max_receives)
    endings.carry_out(row, step, "timeout")


def promote(txn: Transaction, batch: int) -> int:
    """Make due jobs ready; return how many."""
    due = txn.rows(_DUE, (txn.now, batch))
    if not due:
        return 0
    ns = [n for _, n, _, _, is_gated in due if not is_gated]
    gated = [n for _, n, _, _, is_gated in due if is_gated]
    txn.many(_SETTLE["undeferred"], [row[:2] for row in due])
    flagged = [n for _, n, _, flags, _ in due if flags]
    waited = stop_awaiting(txn, flagged) if flagged else ()
    if ns:
        txn.execute(_SQL["make_ready"], (numbers(ns),))
    if gated:
        gates_of(txn).streams.make_ready(gated)
    txn.execute(_SQL["promote"], (numbers(row[1] for row in due),))
    for _, n, queue, _, _ in due:
        # A deferred row without its job was damaged by hand, and goes.
        if queue is not None:
            txn.move(queue, WAITING if n in waited else SCHEDULED, READY)
    txn.freshen()
    return len(due)


def expire_late(txn: Transaction, batch: int) -> int:
    """End jobs that were to start before now; return how many."""
    late = txn.rows(_SQL["late"], (txn.now, batch))
    expire(txn, [n for _, n in late])
    txn.many(_SETTLE["unexpiring"], late)
    return len(late)


def mind_gates(txn: Transaction, batch: int) -> None:
    """Find out when shut valves open, and drop what stands for jobs that are gone."""
    if txn.row(_NEWS["has_gates"]) is not None:
        look_over(txn)
        gates_of(txn).streams.forget(batch)
    txn.execute(_VALVE["forget_passed_over"], (txn.now - _PASSED_OVER_KEPT_S,))


def forget(txn: Transaction, batch: int) -> None:
    """Drop receipts, tombs, closed sessions and orphaned blobs whose time is over."""
    txn.execute(_SQL["forget_receipts"], (txn.now, batch))
    txn.execute(_SQL["forget_tombs"], (txn.now, batch))
    forget_events(txn, batch)
    txn.execute(_SESSIONS["forget_closed"], (txn.now - _SESSION_KEPT_S, batch))
    for check_at, job_id, digest, has_job in txn.rows(_SQL["orphans"], (txn.now, batch)):
        if not has_job and not txn.row(_BLOB["watched"], (job_id, digest, check_at)):
            txn.execute(_BLOB["waste"], (job_id, digest))
        txn.execute(_BLOB["unwatch"], (check_at, job_id, digest))
