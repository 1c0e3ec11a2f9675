"""The verbs of steering: cancel, revive, discard, pause and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import rank
from cicely.core.outcome import CANCELLED, Finish
from cicely.core.states import State, allows
from cicely.engines.contract import RECEIPT_LEASES
from cicely.engines.sqlite.endings import Endings, Row, rows_of
from cicely.engines.sqlite.sessions import session_of
from cicely.engines.sqlite.settling import DEFAULT_LEASE_S
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.sweeping import delete
from cicely.engines.sqlite.transaction import FAILED, READY, Transaction, token_of

_SQL: Final = statements("steer")
_ENQUEUE: Final = statements("enqueue")
_SETTLE: Final = statements("settle")
_SWEEP: Final = statements("sweep")


def steer(txn: Transaction, move: str, job_ids: Sequence[str], reason: str) -> list[str]:
    """Move jobs on a person's behalf; return those moved."""
    act = {"cancel": _cancel, "revive": _revive, "discard": _discard}[move]
    txn.is_stirred = True
    return [
        job_id
        for job_id in dict.fromkeys(job_ids)
        for row in rows_of(txn, txn.row(_SQL["by_id"], (job_id,)) or ())
        if allows(move, row.state) and act(txn, row, reason)
    ]


def _cancel(txn: Transaction, row: Row, reason: str) -> bool:
    if not row.is_running:
        endings = Endings(txn)
        endings.finish(row, Finish(State.CANCELLED, row.tallies, reason or CANCELLED))
        endings.write()
        return True
    if not row.cancelling:
        txn.execute(_SQL["reason"], (row.n, reason or CANCELLED))
    txn.execute(_SQL["mark"], (row.n,))
    holder = txn.row(_SQL["worker"], (row.session,))
    if holder is not None:
        txn.called.append(session_of(*holder).worker)
    return True


def _revive(txn: Transaction, row: Row, reason: str) -> bool:
    if row.unique_key is not None and txn.row(_ENQUEUE["holder"], (row.unique_key,)):
        return False
    _keep_last_attempt(txn, row)
    order = rank(row.priority, txn.now, ageing_s=row.ageing_s)
    txn.execute(
        _SQL["revive"],
        (row.n, row.fence, row.attempt_then, row.started_at, order, reason or "revived"),
    )
    txn.execute(_SQL["clear_error"], (row.n,))
    txn.execute(_ENQUEUE["ready"], (row.queue, row.lane, row.job_class, order, row.n))
    if row.unique_key is not None:
        txn.execute(_ENQUEUE["uniq"], (row.unique_key, row.n))
    txn.move(row.queue, row.state_code, READY)
    return True


def _keep_last_attempt(txn: Transaction, row: Row) -> None:
    """Turn a job's end into one of its attempts, with a receipt for whoever repeats the outcome."""
    [end] = txn.rows(_SQL["end"], (row.n,))
    state, ended_at, started_at, session, request, fence, attempt, outcome, error = end
    if session is not None:
        record = (row.n, fence, attempt, outcome, started_at, ended_at, session, error)
        txn.execute(_SETTLE["attempt"], record)
    if request is not None:
        until_at = txn.now + RECEIPT_LEASES * DEFAULT_LEASE_S
        txn.execute(_SETTLE["receipt"], (token_of(request, row.n, fence), outcome, until_at))
    txn.execute(_SQL["undone"], (row.n,))
    keep_s = row.keep_failed_s if state == FAILED else row.keep_s
    txn.execute(_SWEEP["unsweepable"], (ended_at + keep_s, row.n))


def _discard(txn: Transaction, row: Row, reason: str) -> bool:
    delete(txn, (row.n,))
    return True


def pause(txn: Transaction, queue: str) -> None:
    """Hand out no more jobs of `queue`."""
    txn.execute(_SQL["pause"], (queue, 1))


def resume(txn: Transaction, queue: str) -> None:
    """Hand out the jobs of `queue` again."""
    txn.execute(_SQL["pause"], (queue, 0))
    txn.is_stirred = True
