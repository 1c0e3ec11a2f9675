"""The verbs of steering: cancel, revive, discard, pause and resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.event import JOB_REVIVED, QUEUE_PAUSED, QUEUE_RESUMED
from cicely.core.states import allows
from cicely.engines.postgres.cascade import Cascade
from cicely.engines.postgres.endings import Row, fresh, locked_rows, tell_of
from cicely.engines.postgres.graph import OUT
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.sweeping import delete
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.undoing import Undoing

_SQL: Final = statements("steer")
_GRAPH: Final = statements("graph")


def steer(txn: Transaction, move: str, job_ids: Sequence[str], reason: str) -> list[str]:
    """Move jobs on a person's behalf; return those moved."""
    act = {"cancel": _cancel, "revive": _revive, "discard": _discard}[move]
    txn.is_stirred = True
    wanted = list(dict.fromkeys(job_ids))
    numbers = [n for (n,) in txn.rows(_SQL["by_ids"], {"ids": wanted})] if wanted else []
    rows = {row.id: row for row in locked_rows(txn, numbers)}
    known = (rows[job_id] for job_id in wanted if job_id in rows)
    return [row.id for row in fresh(txn, known) if allows(move, row.state) and act(txn, row, reason)]


def _cancel(txn: Transaction, row: Row, reason: str) -> bool:
    cascade = Cascade(txn)
    cascade.cancel(row, reason)
    cascade.run(())
    return True


def _revive(txn: Transaction, row: Row, reason: str) -> bool:
    if not Undoing(txn).revive(row, reason):
        return False
    tell_of(txn, row, JOB_REVIVED, reason or "revived", None)
    return True


def _discard(txn: Transaction, row: Row, reason: str) -> bool:
    if row.traits & OUT and txn.rows(_GRAPH["has_live_child"], {"ns": [row.n]}):
        return False
    delete(txn, (row.n,))
    return True


def pause(txn: Transaction, queue: str) -> None:
    """Hand out no more jobs of `queue`."""
    if txn.rows(_SQL["pause"], {"name": queue}):
        txn.record.tell(QUEUE_PAUSED, name=queue)


def resume(txn: Transaction, queue: str) -> None:
    """Hand out the jobs of `queue` again."""
    was_paused = txn.row(_SQL["is_paused"], {"name": queue})
    txn.execute(_SQL["resume"], {"name": queue})
    if was_paused is not None and was_paused[0]:
        txn.record.tell(QUEUE_RESUMED, name=queue)
    txn.is_stirred = True
