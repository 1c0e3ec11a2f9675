"""Deletes ended jobs and all that belongs to them; what outlives a job: tomb, receipt, its place in edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.engines.contract import RECEIPT_LEASES
from cicely.engines.sqlite.agenda import PER_CALL, UNLINK, Agenda, Task
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import (
    CHILDREN,
    PARENTS,
    Transaction,
    Values,
    numbers,
    tags_of,
    token_of,
)

_SQL: Final = statements("sweep")
_SETTLE: Final = statements("settle")
_GRAPH: Final = statements("graph")
_INTENT: Final = statements("intent")

_DELETIONS: Final = [statement for name, statement in _SQL.items() if name.startswith("delete_")]
_OF_PLAIN_JOBS: Final = [
    statement for name, statement in _SQL.items() if name.startswith("delete_") and not name.endswith("_too")
]

#: A job that is past its retention before another that is not: looked at again after this.
_STAY_S: Final = 1_800.0


def delete_old(txn: Transaction, batch: int) -> int:
    """Delete jobs past their retention; return how many."""
    old = txn.rows(_SQL["old"], (txn.now, batch))
    if not old:
        return 0
    ended = txn.rows(_SQL["remains"], (numbers(n for _, n in old),))
    kept = {remains[0] for remains in ended if remains[-2] and _has_to_stay(txn, remains)}
    deleted = [n for _, n in old if n not in kept]
    delete(txn, deleted)
    txn.many(_SQL["unsweepable"], old)
    for n in kept:
        txn.execute(_SETTLE["sweepable"], (numbers((n,)), txn.now + _STAY_S))
    return len(deleted)


def _has_to_stay(txn: Transaction, remains: Values) -> bool:
    """Return whether a job of an edge is still needed, or was brought back and ended anew since."""
    return bool(remains[-1] > txn.now or (remains[-2] & CHILDREN and has_live_child(txn, remains[0])))


def has_live_child(txn: Transaction, n: int) -> bool:
    """Return whether a job that comes after this one has not ended."""
    return txn.row(_GRAPH["has_live_child"], (n,)) is not None


def delete(txn: Transaction, ns: Sequence[int]) -> None:
    """Delete ended jobs and all that belongs to them."""
    if not ns:
        return
    ended = txn.rows(_SQL["remains"], (numbers(ns),))
    for remains in ended:
        _bury(txn, remains)
    # Only what has ended, whatever a damaged index says.
    gone = [remains[0] for remains in ended]
    if not gone:
        return
    for statement in _DELETIONS if any(remains[-2] for remains in ended) else _OF_PLAIN_JOBS:
        txn.execute(statement, (numbers(gone),))


def _bury(txn: Transaction, remains: Values) -> None:
    """Keep what outlives a job: a tomb of its id, a receipt of its end while it is young."""
    (
        n, job_id, job_class, queue, remember_s, tags, state, ended_at, request, fence, outcome,
        lease_s, flags, delete_at,
    ) = remains  # fmt: skip
    if remember_s > 0:
        txn.execute(_SQL["tomb"], (job_id, job_class, queue, state, txn.now + remember_s))
    receipt_until = ended_at + RECEIPT_LEASES * lease_s
    if request is not None and receipt_until > txn.now:
        txn.execute(_SETTLE["receipt"], (token_of(request, n, fence), outcome, receipt_until))
    txn.many(_SQL["untag"], [(tag, n) for tag in tags_of(tags)])
    txn.execute(_SQL["waste_blobs"], (job_id,))
    txn.execute(_SQL["unsweepable"], (delete_at, n))
    txn.count(queue, state, -1)
    if flags & (PARENTS | CHILDREN):
        _cut_off(txn, n, job_id)


def _cut_off(txn: Transaction, n: int, job_id: str) -> None:
    """Remove the edges into a job, many of them later; those out of it stay, and so does its number."""
    if _cut(txn, n, PER_CALL):
        txn.execute(_GRAPH["add_gone"], (n, job_id))
        txn.execute(_INTENT["add"], (*Task(UNLINK, n), 0))
    elif txn.row(_GRAPH["has_edges_out"], (n,)) is not None:
        txn.execute(_GRAPH["add_gone"], (n, job_id))


def _cut(txn: Transaction, n: int, count: int) -> bool:
    """Remove some of the edges into a job; return whether there may be more."""
    parents = [row[0] for row in txn.rows(_GRAPH["cut_off"], (n, count))]
    if parents:
        txn.execute(_GRAPH["forget_gone"], (numbers(parents),))
    return len(parents) == count


def unlink(agenda: Agenda, task: Task) -> Task | None:
    """Remove the edges into a job that was deleted, a page of them."""
    count = agenda.left
    agenda.left -= count
    if _cut(agenda.txn, task.n, count):
        return task
    agenda.txn.execute(_GRAPH["forget_gone"], (numbers((task.n,)),))
    return None
