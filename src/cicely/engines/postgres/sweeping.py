"""The verb `sweep`: every duty in bounded steps, each from the head of an ordered index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import WORKER_LOST
from cicely.core.job import DAY_S
from cicely.core.outcome import after_loss, after_visibility
from cicely.core.rollup import Word
from cicely.engines.contract import RECEIPT_LEASES, Silent
from cicely.engines.postgres.cascade import Moves, expire
from cicely.engines.postgres.drawing import draw
from cicely.engines.postgres.endings import fresh, held_by, rows_of
from cicely.engines.postgres.gates import stood
from cicely.engines.postgres.graph import LINKED, OUT
from cicely.engines.postgres.member import session_of
from cicely.engines.postgres.reservations import end_with_worker
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    READY,
    SCHEDULED,
    WAITING,
    Transaction,
    tags_of,
    token_of,
)
from cicely.engines.postgres.waiting import forget_events, time_out
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("sweep")
_PROMOTE: Final = _SQL["promote"]
_OVERDUE: Final = _SQL["overdue"]
_SESSIONS: Final = statements("sessions")
_SETTLE: Final = statements("settle")
_GRAPH: Final = statements("graph")
_BLOB: Final = statements("blob")
_FORGET_DEAD_BELLS: Final = statements("news")["forget_dead"]

#: How long a closed session's name is kept for the attempts that it made.
_SESSION_KEPT_S: Final = 90 * 86_400.0

#: A job that is past its retention is looked at again so much later while one after it lives.
_KEPT_LONGER_S: Final = 3_000.0

#: Of a day, so many seconds are looked through again: settles that take long may end a job in the past.
_SWEPT_AGAIN_S: Final = 2.0

#: Counter rows are narrow: so many are folded for each step of the other duties.
FOLDED_PER_STEP: Final = 10

_UNLINKS: Final = [_SQL[name] for name in ("drop_node", "drop_label", "drop_step", "drop_arrival")]
_DELETIONS: Final = [
    statement for name, statement in _SQL.items() if name.startswith("delete_") and name != "delete_blob"
]


def rescue(txn: Transaction, silent: Silent) -> int:
    """Take everything from a session whose beat is still the one seen; return how many jobs."""
    member = txn.row(_SESSIONS["silent"], {"key": silent.session_id, "beat": silent.beat})
    if member is None:
        return 0
    endings = Moves(txn)
    rows = held_by(txn, member[0])
    for row in fresh(txn, rows):
        step = after_loss(row.tallies, cancelling=bool(row.cancelling), why=row.reason)
        endings.carry_out(row, step, "lost")
    endings.write()
    lost = session_of(silent.session_id, member[1])
    txn.record.tell_of_worker(WORKER_LOST, lost)
    if lost.is_supervisor:
        txn.record.count_other(Word.LOST_WORKERS)
    txn.execute(_SESSIONS["close"], {"id": member[0], "now": txn.now})
    end_with_worker(txn, lost.worker)
    return len(rows)


def take_back_messages(txn: Transaction, batch: int) -> int:
    """Take back claims past their own deadline; return how many."""
    overdue = txn.rows(_OVERDUE, _until_now(txn, batch))
    if not overdue:
        return 0
    endings = Moves(txn)
    for row in fresh(txn, rows_of(txn, (n for (n,) in overdue))):
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
    if not due:
        return 0
    waited = time_out(txn, [n for _, n, *_ in due])
    stood(txn, (stream for _, _, stream, _ in due))
    stood(txn, draw(txn, [n for _, n, _, may_draw in due if may_draw]))
    for queue, n, *_ in due:
        txn.move(queue, WAITING if n in waited else SCHEDULED, READY)
    return len(due)


def expire_late(txn: Transaction, batch: int) -> int:
    """End jobs that were to start before now; return how many."""
    late = txn.rows(_SQL["late"], _until_now(txn, batch))
    expire(txn, [n for _, n in late])
    txn.many(_SETTLE["unexpiring"], late)
    return len(late)


def delete_old(txn: Transaction, batch: int) -> int:
    """Delete jobs past their retention, those first that expired first; return how many."""
    old = txn.rows(_SQL["old"], _until_now(txn, batch))
    by_day = _Days(txn, batch)
    old = sorted(old + by_day.old, key=lambda row: row[2])[:batch]
    by_day.move_on(old[-1][2] if len(old) == batch else txn.now)
    before_others = [n for n, traits, _ in old if traits is not None and traits & OUT]
    kept = _with_live_children(txn, before_others) if before_others else set()
    delete(txn, sorted(n for n, _, _ in old if n not in kept))
    return len(old)


class _Days:
    """The jobs past their retention whose ends lie in the parts of days, up to today's.

    The ends of jobs that are deleted already stay in them: each sweep begins where the last one stopped.
    """

    def __init__(self, txn: Transaction, batch: int) -> None:
        self._txn = txn
        self._seen: list[tuple[int, float]] = []
        self.old: list[Values] = []
        for day, swept_at in txn.rows(_SQL["swept"], {"now": txn.now}):
            if len(self.old) >= batch:
                return
            where = _until_now(txn, batch) | {"since": swept_at - _SWEPT_AGAIN_S}
            self.old += txn.rows(_SQL["old_of_day"].replace("DAY", str(day)), where)
            self._seen.append((day, swept_at))

    def move_on(self, until: float) -> None:
        """Note up to when no job is left; those that expired then may be, as more may at that instant."""
        for day, swept_at in self._seen:
            reached = min(until, (day + 1) * DAY_S)
            is_over = reached == (day + 1) * DAY_S
            if is_over or reached >= swept_at + _SWEPT_AGAIN_S:
                self._txn.execute(_SQL["sweep_on"], {"day": day, "at": reached})


def _with_live_children(txn: Transaction, ns: list[int]) -> set[int]:
    """Return the jobs that are kept for those after them, to be looked at again later."""
    kept = {n for (n,) in txn.rows(_GRAPH["has_live_child"], {"ns": ns})}
    if kept:
        txn.execute(_SQL["keep_longer"], {"ns": list(kept), "until": txn.now + _KEPT_LONGER_S})
    return kept


def delete(txn: Transaction, ns: Sequence[int]) -> None:
    """Delete ended jobs and all that belongs to them."""
    if not ns:
        return
    ended = txn.rows(_SQL["remains"], {"ns": list(ns)})
    for remains in ended:
        _bury(txn, remains)
    # Only what has ended, whatever a damaged index says.
    gone = [remains[0] for remains in ended]
    linked = [remains[0] for remains in ended if remains[-1] & LINKED]
    if linked:
        _unlink(txn, linked)
    for statement in _DELETIONS if gone else ():
        txn.execute(statement, {"ns": gone})
    if gone:
        txn.execute(_SQL["delete_blob"], {"ids": [remains[1] for remains in ended]})


def _unlink(txn: Transaction, ns: Sequence[int]) -> None:
    """Delete what only jobs of workflows have; those after them may ask who they were."""
    where = {"ns": list(ns)}
    txn.execute(_SQL["forsake"], where)
    before = [parent for (parent,) in txn.rows(_SQL["cut"], where)]
    if before:
        txn.execute(_SQL["forget_gone"], {"ns": before})
    workflows = [name for (name,) in txn.rows(_SQL["workflows_of"], where)]
    txn.execute(_SQL["drop_held"], {**where, "workflows": workflows})
    for statement in _UNLINKS:
        txn.execute(statement, where)


def _bury(txn: Transaction, remains: Values) -> None:
    """Keep what outlives a job: a tomb of its id, a receipt of its end while it is young."""
    (
        n, job_id, job_class, queue, remember_s, tags, state, ended_at, request, fence, outcome,
        lease_s, _,
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
    forget_events(txn, batch)
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
