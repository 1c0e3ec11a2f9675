"""The verbs of steering: cancel, revive, discard, pause and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import QUEUE_PAUSED, QUEUE_RESUMED
from cicely.core.states import allows
from cicely.engines.sqlite.cascade import begin
from cicely.engines.sqlite.deciding import cancel
from cicely.engines.sqlite.deleting import delete, has_live_child
from cicely.engines.sqlite.endings import Row, rows_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import revived, tell
from cicely.engines.sqlite.transaction import CHILDREN, Transaction
from cicely.engines.sqlite.undoing import revive

_SQL: Final = statements("steer")


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
    agenda = begin(txn)
    cancel(agenda, row, reason)
    agenda.run()
    return True


def _revive(txn: Transaction, row: Row, reason: str) -> bool:
    agenda = begin(txn)
    is_back = revive(agenda, row, reason)
    agenda.run()
    if is_back:
        revived(txn, row, reason or "revived")
    return is_back


def _discard(txn: Transaction, row: Row, reason: str) -> bool:
    if row.flags & CHILDREN and has_live_child(txn, row.n):
        return False
    delete(txn, (row.n,))
    return True


def pause(txn: Transaction, queue: str) -> None:
    """Hand out no more jobs of `queue`."""
    if not _is_paused(txn, queue):
        tell(txn, QUEUE_PAUSED, queue)
    txn.execute(_SQL["pause"], (queue, 1))


def resume(txn: Transaction, queue: str) -> None:
    """Hand out the jobs of `queue` again."""
    if _is_paused(txn, queue):
        tell(txn, QUEUE_RESUMED, queue)
    txn.execute(_SQL["pause"], (queue, 0))
    txn.freshen()


def _is_paused(txn: Transaction, queue: str) -> bool:
    row = txn.row(_SQL["paused"], (queue,))
    return row is not None and bool(row[0])
